"""One seed, one generator for each purpose.

Each purpose draws from a generator of its own, so that switching dropout on does not change
the initial weights, nor a longer shuffle the augmentation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

PURPOSES = ("initialization", "split", "shuffle", "dropout", "augmentation")


@dataclass(frozen=True)
class Randomness:
    """Independent generators, all spawned from one seed.

    `dropout` uses SFC64, whose raw bits are the cheapest to draw; the others PCG64.
    """

    initialization: np.random.Generator
    split: np.random.Generator
    shuffle: np.random.Generator
    dropout: np.random.Generator
    augmentation: np.random.Generator

    @classmethod
    def from_seed(cls, seed: int) -> "Randomness":
        """Spawn the generators from ``SeedSequence(seed)`` in the order of `PURPOSES`."""
        children = np.random.SeedSequence(seed).spawn(len(PURPOSES))
        generators = {
            name: np.random.Generator(
                np.random.SFC64(child) if name == "dropout" else np.random.PCG64(child)
            )
            for name, child in zip(PURPOSES, children, strict=True)
        }
        return cls(**generators)

    def state(self) -> dict[str, Any]:
        """Return the state of every generator as values that fit JSON."""
        return {name: _plain(getattr(self, name).bit_generator.state) for name in PURPOSES}

    def restore(self, state: dict[str, Any]) -> None:
        """Put every generator where `state` found it."""
        for name in PURPOSES:
            getattr(self, name).bit_generator.state = state[name]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value
