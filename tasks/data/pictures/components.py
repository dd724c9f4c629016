"""Connected parts of a mask: strokes, specks, the edge of a sheet of paper."""

import numpy as np
from numpy.typing import NDArray


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], int]:
    """Number the connected parts of a mask; pixels that touch at a corner are connected.

    Parameters
    ----------
    mask : NDArray[bool], shape (height, width)

    Returns
    -------
    labels : NDArray[int], shape (height, width)
        0 where the mask is False, else the number of the part, counted from 1.
    count : int
        How many parts there are.
    """
    height, width = mask.shape
    # A frame spares the neighbours any special case. Each pixel begins as a part of its own,
    # named by its place; a part's name is the largest place in it.
    places = np.zeros((height + 2, width + 2), np.intp)
    places[1:-1, 1:-1] = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    inner = places[1:-1, 1:-1]
    while True:
        largest = inner.copy()
        for down in (0, 1, 2):
            for right in (0, 1, 2):
                np.maximum(
                    largest, places[down : down + height, right : right + width], out=largest
                )
        largest[~mask] = 0
        # A name is a place, so it can be followed to the name there: parts of any shape are
        # one after a few rounds instead of one round a pixel.
        names = np.concatenate([[0], largest.ravel()])
        for _ in range(4):
            names = names[names]
        merged = names[1:].reshape(mask.shape)
        if np.array_equal(merged, inner):
            break
        inner[...] = merged
    found, labels = np.unique(inner, return_inverse=True)
    without_background = 0 if found[0] == 0 else 1
    return labels.reshape(mask.shape) + without_background, len(found) - 1 + without_background
