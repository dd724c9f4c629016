"""What a champion may be expected to reach on new images: a reserve of the test set. Pure NumPy.

Models are compared on the same test images night after night, so a champion is also the one that
these images flatter. Every fifth test image is therefore kept out of all comparisons and scored
only for a model that is promoted, when it can change nothing any more. The reserve is chosen by
each image's own bytes: an image belongs to it or does not, whatever is added to the test set and in
whatever order, and what is there twice is on one side.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.proportions import wilson

ONE_IN = 5


@dataclass(frozen=True)
class Expected:
    """What accuracy new images like the reserve's will show, in 95 of 100 cases.

    Attributes
    ----------
    accuracy, margin
        The middle of the interval, and how far it reaches to each side; shares of 1.
    images
        How many images it is known from.
    """

    accuracy: float
    margin: float
    images: int

    def __contains__(self, accuracy: float) -> bool:
        """Return whether an accuracy lies in the interval."""
        return abs(accuracy - self.accuracy) <= self.margin + 1e-12

    def __str__(self) -> str:
        return f"{self.accuracy:.4f} ± {self.margin:.4f}"


def in_reserve(images: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which images belong to the reserve, shape (n,).

    Parameters
    ----------
    images : NDArray[uint8], shape (n, height, width)
    """
    return np.array([_first_of_digest(image) % ONE_IN == 0 for image in images], bool)


def expect(right: NDArray[np.bool_]) -> Expected | None:
    """Return what to expect of a model on new images; None if the reserve is empty.

    The interval is Wilson's: `digitflow.tasks.nn.proportions`.

    Parameters
    ----------
    right : NDArray[bool], shape (n,)
        For which images of the reserve the model is right.
    """
    if not len(right):
        return None
    return Expected(*wilson(int(right.sum()), len(right)), len(right))


def _first_of_digest(image: NDArray[Any]) -> int:
    digest = hashlib.sha256(image.tobytes()).digest()
    return int.from_bytes(digest[:8], "big")
