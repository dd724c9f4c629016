"""Arrays as files: `.npy` and `.npz`, without pickle and without more memory than the file holds.

NumPy is imported where it is used: planning a run and serving a cached one need no arrays.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from digitflow.storage.code.syntax import PARSING
from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats.archives import stored_members
from digitflow.storage.formats.mapped import pieces

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_HEADER_BYTES = 10_000  # NumPy's own limit


def write_npy(path: Path, value: NDArray[Any]) -> dict[str, Any]:
    """Write an array so that equal arrays give equal bytes, however they lie in memory."""
    import numpy as np

    array = _plain(value, "an array")
    with path.open("wb") as file:
        # As numpy.save, but for the memory that its pages would count as.
        is_mapped = isinstance(value, np.memmap) and value.flags.c_contiguous and value.ndim
        if is_mapped and _version(array) is None:
            header = np.lib.format.header_data_from_array_1_0(array)
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces(value):
                piece.tofile(file)
        else:
            np.lib.format.write_array(file, array, _version(array), allow_pickle=False)
    return describe(array)


def read_npy(path: Path) -> NDArray[Any]:
    """Open an array as a read-only memory map."""
    import numpy as np

    with path.open("rb") as file:
        _check_header(file, path.stat().st_size, str(path))
    with PARSING:
        array: np.memmap[Any, Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def write_npz(path: Path, value: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Write arrays by name, uncompressed; the bytes are those of `numpy.savez`."""
    import numpy as np

    arrays = {name: _plain(each, f"{name!r}") for name, each in value.items()}
    # numpy.savez takes the names as keywords, and so has none called "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, _version(array), allow_pickle=False)
    return {"arrays": {name: describe(array) for name, array in arrays.items()}}


def read_npz(
    path: Path, outlined: Callable[[str], bool] = lambda name: False
) -> dict[str, NDArray[Any]]:
    """Read arrays by name.

    Parameters
    ----------
    path
        The archive.
    outlined
        Tells of which arrays shape and dtype are enough: nothing of what they hold is read.
    """
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in stored_members(archive, path):
            what = f"{path} ({member.filename})"
            with archive.open(member) as file:
                shape, dtype = _check_header(file, member.file_size, what)
                name = member.filename.removesuffix(".npy")
                take = _outline if outlined(name) else _read
                arrays[name] = take(file, shape, dtype)
    return arrays


def outline_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return arrays by name, of which shapes and dtypes are right."""
    return read_npz(path, lambda name: True)


def is_outline(array: NDArray[Any]) -> bool:
    """Tell whether nothing of what an array holds was read."""
    return array.size > 1 and not any(array.strides)


def _read(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    import numpy as np

    file.seek(0)
    with PARSING:
        array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return array


def _outline(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    import numpy as np

    # NumPy alone knows how other names of fields are written, and sets strides of one item anew.
    if not repr(dtype).isascii() or math.prod(shape) <= 1:
        return _read(file, shape, dtype)
    one = bytes(dtype.itemsize + 1)  # a buffer must not be empty
    return np.ndarray(shape, dtype, one, strides=(0,) * len(shape))


def _plain(value: Any, what: str) -> NDArray[Any]:
    import numpy as np

    lost = "its mask" if isinstance(value, np.ma.MaskedArray) else None
    if hasattr(value, "index") and hasattr(value, "to_numpy"):  # of pandas
        lost = "its index and its name"
    if lost is not None:
        message = f"expected {what}, found {type(value).__name__}, of which {lost} would be lost"
        raise ArtifactError(message)
    # Not ascontiguousarray, which makes one dimension out of none.
    array: NDArray[Any] = np.asarray(value, order="C")
    if array.dtype.hasobject:
        message = f"expected {what} of numbers, found dtype {array.dtype}"
        raise ArtifactError(message)
    return array


def _version(array: NDArray[Any]) -> tuple[int, int] | None:
    """Return the version of NumPy's format that an array needs, where that is not the first.

    NumPy would choose it, too, and warn of releases that cannot read it and are too old for us.
    """
    return None if repr(array.dtype).isascii() else (3, 0)


def describe(array: NDArray[Any]) -> dict[str, Any]:
    """Return an array's details for its reference."""
    return {"shape": list(array.shape), "dtype": str(array.dtype)}


def _check_header(file: IO[bytes], size: int, what: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype; refuse a header that declares other bytes than those that follow."""
    from numpy.lib import format as npy

    if file.read(len(npy.MAGIC_PREFIX)) != npy.MAGIC_PREFIX:
        message = f"{what} is not an .npy file"
        raise ArtifactError(message)
    file.seek(0)
    # From version 2 on the header's length takes four bytes instead of two.
    first = npy.read_magic(file) == (1, 0)
    length = int.from_bytes(file.read(2 if first else 4), "little")
    if length > _MAX_HEADER_BYTES:  # NumPy would make room for it before it looks
        message = f"{what} declares a header of {length:,} bytes, expected at most 10,000"
        raise ArtifactError(message)
    file.seek(npy.MAGIC_LEN)
    with PARSING:
        shape, _, dtype = (npy.read_array_header_1_0 if first else npy.read_array_header_2_0)(file)
    if dtype.hasobject:
        message = f"{what} names Python objects, which are never loaded"
        raise ArtifactError(message)
    declared = math.prod(shape) * dtype.itemsize
    held = size - file.tell()
    if min(shape, default=0) < 0 or declared != held:
        message = f"{what} declares {declared:,} bytes of data, found {held:,}"
        raise ArtifactError(message)
    return shape, dtype
