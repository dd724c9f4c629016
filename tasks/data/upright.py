"""Images whose rows and columns are exchanged, as EMNIST stores them, turned upright."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 4096  # images that are copied at once


def transpose_images(images: NDArray[Any]) -> NDArray[Any]:
    """Exchange rows and columns of every image, in the memory or the file where they lie.

    Parameters
    ----------
    images : NDArray, shape (n, height, width)
        C-contiguous; its bytes are changed.

    Returns
    -------
    NDArray, shape (n, width, height)
        The same memory.

    Raises
    ------
    ValueError
        If the array has another number of dimensions.
    """
    if images.ndim != 3:
        message = f"expected images of shape (n, height, width), found {images.shape}"
        raise ValueError(message)
    count, height, width = images.shape
    upright = images.reshape(count, width, height)
    for start in range(0, count, _BLOCK):
        block = slice(start, start + _BLOCK)
        upright[block] = np.ascontiguousarray(images[block].swapaxes(1, 2))
    return upright
