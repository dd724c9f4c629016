"""Arrays that are made once and filled again and again."""

from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

Order = Literal["C", "F"]

# Bytes of a cache line, and of the widest SIMD register.
LINE = 64


class Buffer:
    """One array, made anew only when another shape, dtype or memory order is asked for.

    Batches of one size therefore allocate nothing after the first. A buffer is a place for results
    and never a memory of them: what a layer needs later it keeps under a name of its own.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._array: NDArray[Any] = np.empty(0)

    def shaped(self, shape: tuple[int, ...], dtype: DTypeLike, order: Order = "C") -> NDArray[Any]:
        """Return an array of `shape`, all zeros when it is made."""
        key = (shape, dtype, order)
        if key != self._key:
            self._key, self._array = key, aligned(shape, dtype, order)
        return self._array

    def like(self, x: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array for an element-wise result of the batch `x`.

        Images lie as all images here do, features as those of `x`: element-wise work is fast where
        both lie in the same order, and right in any.
        """
        if x.ndim == 4:
            return self.images(x.shape, dtype)
        return self.shaped(x.shape, dtype, "F" if x.flags.fnc else "C")

    def images(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of `shape` (n, channels, height, width) with the batch innermost."""
        n, channels, height, width = shape
        return as_images(self.shaped((height, channels, width, n), dtype))


def aligned(shape: tuple[int, ...], dtype: DTypeLike, order: Order = "C") -> NDArray[Any]:
    """Return zeros whose first one begins a cache line.

    NumPy gives large arrays an address 16 bytes behind one, so that every wide load of their
    elements touches two lines; a matrix product into such an array takes 8 % longer.
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    room = np.zeros(size + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + size].view(dtype).reshape(shape, order=order)


def in_memory_order(x: NDArray[Any]) -> NDArray[Any]:
    """Return the images (n, channels, height, width) as (height, channels, width, n).

    That is how images lie in memory here, so the view is contiguous; `as_images` goes back.
    """
    return x.transpose(2, 1, 3, 0)


def as_images(rows: NDArray[Any]) -> NDArray[Any]:
    """Return (height, channels, width, n) as images (n, channels, height, width)."""
    return rows.transpose(3, 1, 0, 2)
