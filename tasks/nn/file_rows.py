"""Rows of an array that is larger than the memory should be, read from its file.

What is read through a memory map counts as memory of this process until the system needs it for
something else. An epoch reads everything, so a training would grow to the size of its data, and a
limit on its memory (of a container, of a batch system) would end it. What is read from the file
into a buffer does not count; it lies in the system's page cache all the same.
"""

from __future__ import annotations

import errno
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A smaller array is read through its map, which takes no call a row; all of MNIST is smaller.
MAPPED = 64 * 1024**2  # bytes


class FileRows:
    """Reads rows of a C-contiguous array that lies in a file.

    Parameters
    ----------
    array : memmap, shape (n, …)
        Whose rows are read; the map itself is not.
    """

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        base = array
        while isinstance(base.base, np.memmap):
            base = base.base
        self._start = base.offset + array.ctypes.data - base.ctypes.data
        self._row_size = array[:1].nbytes
        self._file = os.open(str(array.filename), os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._out: NDArray[Any] | None = None
        self._parts: list[memoryview] = []

    def take(self, rows: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Read some of the rows into `out`, shape (len(rows), …), C-contiguous.

        Raises
        ------
        OSError
            If the file ends before one of them.
        """
        if out is not self._out:
            flat, size = out.data.cast("B"), self._row_size
            self._parts = [flat[i * size : (i + 1) * size] for i in range(len(out))]
            self._out = out
        read = 0
        for part, place in zip(
            self._parts, (rows * self._row_size + self._start).tolist(), strict=True
        ):
            read += os.preadv(self._file, (part,), place)
        self._check(read, out)

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out`; otherwise as `take`."""
        view, read = out.data.cast("B"), 0
        while read < len(view):
            place = self._start + start * self._row_size + read
            count = os.preadv(self._file, (view[read:],), place)
            if not count:
                break
            read += count
        self._check(read, out)

    def _check(self, read: int, out: NDArray[Any]) -> None:
        if read != out.nbytes:
            message = f"expected {out.nbytes:,} bytes of rows, found {read:,}: the file was cut off"
            raise OSError(errno.EIO, message)


def file_rows(array: NDArray[Any]) -> FileRows | None:
    """Return what reads the rows of a large memory map, or None for any other array.

    A map that can be written to may hold what its file does not, and counts as another array.
    """
    if (
        not isinstance(array, np.memmap)
        or array.mode != "r"
        or array.filename is None
        or array.nbytes <= MAPPED
        or not array.flags.c_contiguous
        or not hasattr(os, "preadv")
    ):
        return None
    return FileRows(array)
