"""Hold back a validation set."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]


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
