"""Memory maps of `.npy` files: which file holds an array, and nothing but that array.

Bytes that are on the disk already need not be read and written once more to be stored.
"""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PIECE = 16 * 1024**2  # bytes


def file_of(value: Any) -> Path | None:
    """Return the file that holds what `numpy.save` would write for `value`, byte for byte.

    Parameters
    ----------
    value
        Any value. Only a memory map of a whole `.npy` file, or a view of all of it, is one
        that a file is known of.

    Returns
    -------
    Path or None
        None also where the file was written another way, or no longer is what was mapped.
    """
    import numpy as np
    from numpy.lib import format as npy

    if not isinstance(value, np.memmap) or value.filename is None or value.mode == "c":
        return None  # what is changed in a copy-on-write map never reaches the file
    if not repr(value.dtype).isascii():
        return None  # its header is of another version
    mapped = np.frombuffer(_map(value), np.uint8)
    header = io.BytesIO()
    npy.write_array_header_1_0(header, npy.header_data_from_array_1_0(value))
    start = value.ctypes.data - mapped.ctypes.data
    file = Path(value.filename)
    if (
        start != len(header.getvalue())
        or start + value.nbytes != mapped.nbytes
        or mapped[:start].tobytes() != header.getvalue()
        or not value.flags.c_contiguous
        or not file.is_file()
        or file.stat().st_size != mapped.nbytes
    ):
        return None
    if value.mode != "r":
        _map(value).flush()
    return file


def pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield all rows of an array, in order and some at a time.

    What was read of a memory map counts as memory of this process: its pages are given back after
    each piece, and lie in the system's page cache all the same.
    """
    import numpy as np

    # The pages of a map that can be written to may hold what the file does not.
    given_back = (
        _map(array)
        if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED")
        else None
    )
    rows = max(1, _PIECE // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]
        if given_back is not None:
            given_back.madvise(mmap.MADV_DONTNEED)


def _map(array: Any) -> mmap.mmap:
    """Return the map that a NumPy memory map is a view of, however indirectly."""
    while not isinstance(array, mmap.mmap):
        array = array.base
    return array
