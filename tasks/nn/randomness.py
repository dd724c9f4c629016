"""One seed, one generator for each purpose.

Each purpose draws from a generator of its own, so that switching dropout on does not change
the initial weights, nor a longer shuffle the augmentation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PURPOSES = ("initialization", "split", "shuffle", "dropout", "augmentation")

Rows = NDArray[np.intp]


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


def stratified_split(
    labels: NDArray[np.integer[Any]], held_back: int, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Divide the rows at random so that every class keeps its share on both sides.

    A class keeps at least one row to be learnt from, however few it has.

    Parameters
    ----------
    labels : NDArray[int], shape (n,)
        Class of each row.
    held_back : int
        How many rows the second part gets, exactly; at most n less the number of classes.
    rng : Generator

    Returns
    -------
    tuple of NDArray[intp]
        Rows to train on (n - held_back,) and rows held back (held_back,), both ascending.

    Raises
    ------
    ValueError
        If `held_back` is negative or leaves a class nothing to be learnt from.
    """
    n = len(labels)
    classes, counts = np.unique(labels, return_counts=True)
    most = n - len(classes)
    if not 0 <= held_back <= most:
        message = (
            f"Of {n} labelled images, 0 to {most} can be held back; asked for {held_back}. "
            f"Each of the {len(classes)} classes keeps one to be learnt from: set a smaller "
            "validation_size."
        )
        raise ValueError(message)
    # Each class's exact share, rounded down; the rows still missing go to the largest remainders.
    shares = counts * held_back / n
    sizes = np.floor(shares).astype(int)
    missing = held_back - int(sizes.sum())
    by_remainder = np.argsort(sizes - shares, kind="stable")
    while missing:
        wanting = by_remainder[sizes[by_remainder] < counts[by_remainder] - 1][:missing]
        sizes[wanting] += 1
        missing -= len(wanting)
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:size]
        for label, size in zip(classes, sizes, strict=True)
    ]
    is_held_back = np.zeros(n, dtype=bool)
    is_held_back[np.concatenate([np.empty(0, np.intp), *chosen])] = True
    return np.flatnonzero(~is_held_back), np.flatnonzero(is_held_back)
