"""Hold back a validation set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def stratified_split(
    labels: NDArray[np.integer[Any]], held_back: int, rng: np.random.Generator
) -> tuple[Rows, Rows]:
    """Divide the rows at random so that every class keeps its share on both sides.

    Parameters
    ----------
    labels : NDArray[int], shape (n,)
        Class of each row.
    held_back : int
        How many rows the second part gets, exactly.
    rng : Generator

    Returns
    -------
    tuple of NDArray[intp]
        Rows to train on (n - held_back,) and rows held back (held_back,), both ascending.

    Raises
    ------
    ValueError
        If `held_back` is negative or leaves nothing to train on.
    """
    n = len(labels)
    if not 0 <= held_back < n:
        message = f"Of {n} labelled images, 0 to {n - 1} can be held back; asked for {held_back}."
        raise ValueError(message)
    classes, counts = np.unique(labels, return_counts=True)
    # Each class's exact share, rounded down; the rows still missing go to the largest remainders.
    shares = counts * held_back / n
    sizes = np.floor(shares).astype(int)
    missing = held_back - int(sizes.sum())
    sizes[np.argsort(sizes - shares, kind="stable")[:missing]] += 1
    chosen = [
        rng.permutation(np.flatnonzero(labels == label))[:size]
        for label, size in zip(classes, sizes, strict=True)
    ]
    is_held_back = np.zeros(n, dtype=bool)
    is_held_back[np.concatenate([np.empty(0, np.intp), *chosen])] = True
    return np.flatnonzero(~is_held_back), np.flatnonzero(is_held_back)
