"""Memory maps of `.npy` files: which file holds an array, and nothing but that array.

Bytes that are on the disk already need not be read and written once more to be stored.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any


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
    # The map that the array is a view of, however indirectly.
    base: Any = value
    while isinstance(base.base, np.ndarray):
        base = base.base
    mapped = np.frombuffer(base.base, np.uint8)
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
        base.flush()
    return file
