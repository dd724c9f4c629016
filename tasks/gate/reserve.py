"""What a champion may be expected to reach on new images: a reserve of the test set. Pure NumPy.

Models are compared on the same test images night after night, so a champion is also the one that
these images flatter. Every fifth test image is therefore kept out of all comparisons and scored
only for a model that is promoted, when it can change nothing any more. The reserve is chosen by
each image's own bytes: an image belongs to it or does not, whatever is added to the test set and in
whatever order, and what is there twice is on one side.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

ONE_IN = 5
CONFIDENCE = 0.95


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

    The interval is Wilson's, which holds what it promises for few images and for accuracies near 1,
    too. Source: E. B. Wilson, "Probable inference, the law of succession, and statistical
    inference", Journal of the American Statistical Association 22 (1927).

    Parameters
    ----------
    right : NDArray[bool], shape (n,)
        For which images of the reserve the model is right.
    """
    n, hits = len(right), int(right.sum())
    if not n:
        return None
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = (hits + z**2 / 2) / (n + z**2)
    margin = z * math.sqrt(hits * (n - hits) / n + z**2 / 4) / (n + z**2)
    return Expected(middle, margin, n)


def _first_of_digest(image: NDArray[Any]) -> int:
    digest = hashlib.sha256(image.tobytes()).digest()
    return int.from_bytes(digest[:8], "big")
