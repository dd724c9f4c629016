"""`.npy` and IDX files → pictures; several in one file are told apart by their place in it."""

from __future__ import annotations

import math
import tokenize
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.pictures.errors import PictureError

_MAX_BYTES = 2 * 1024**3

# What NumPy is known to raise on damaged files: it reads the header as a Python literal.
_DAMAGE = (
    ValueError,
    OSError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)


def is_array_file(start: bytes) -> bool:
    """Tell by its first bytes whether a file is `.npy`, or IDX, gzipped or plain."""
    return start.startswith((b"\x93NUMPY", b"\x1f\x8b", b"\0\0"))


def read_arrays(
    file: Path, name: str, size: tuple[int, int], *, transposed: bool = False
) -> tuple[list[str], NDArray[np.uint8]]:
    """Read the pictures of a `.npy` or IDX file.

    Parameters
    ----------
    file : Path
    name : str
        What error messages call it.
    size : tuple[int, int]
        Height and width of the images that the network takes: rows of as many numbers are such
        images.
    transposed : bool
        IDX files hold their images with rows and columns exchanged: turn them upright.

    Returns
    -------
    names : list[str]
        ``name`` of a single picture, ``name[0]``, ``name[1]``, … of several.
    pictures : NDArray[uint8], shape (n, height, width)

    Raises
    ------
    PictureError
        If the file is damaged, or holds anything else than grey pictures of numbers from 0 to
        255, or from 0 to 1 if they are floats; or images that are upright already and should be
        `transposed`.
    """
    with file.open("rb") as stream:
        is_npy = stream.read(6) == b"\x93NUMPY"
    array = _read_npy(file, name) if is_npy else _read_idx(file, name)
    if transposed and not is_npy:
        array = _turned(array, name, size)
    pictures = _as_bytes(_as_pictures(array, name, size), name)
    is_single = array.ndim == 2 and len(pictures) == 1 or array.ndim == 1
    names = [name] if is_single else [f"{name}[{place}]" for place in range(len(pictures))]
    return names, pictures


def _read_npy(file: Path, name: str) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the header is in the style of Python 2
            # As a map: a header that declares more than the file holds is refused, not made room
            # for.
            array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        message = f"{name}: expected a sound .npy file of numbers: {error}"
        raise PictureError(message) from error
    return array


def _read_idx(file: Path, name: str) -> NDArray[Any]:
    try:
        return idx.decode(file, name=name, max_bytes=_MAX_BYTES)
    except idx.IdxError as error:
        raise PictureError(str(error)) from error


def _turned(array: NDArray[Any], name: str, size: tuple[int, int]) -> NDArray[Any]:
    """Turn the images of an IDX file upright; what is none is for `_as_pictures` to refuse."""
    if array.ndim != 3:
        return array
    height, width = size
    if height != width and array.shape[1:] == size:
        message = (
            f"{name}: expected images of {width} x {height} pixels, stored transposed as in the "
            f"dataset that the model was trained on, found {height} x {width}; if they are upright "
            "already, save them as .npy, which is never turned"
        )
        raise PictureError(message)
    return array.transpose(0, 2, 1)


def _as_pictures(array: NDArray[Any], name: str, size: tuple[int, int]) -> NDArray[Any]:
    pixels = math.prod(size)
    if array.ndim == 1 and len(array) == pixels:
        array = array.reshape(1, *size)
    elif array.ndim == 2 and array.shape[1] == pixels:
        array = array.reshape(-1, *size)
    elif array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or 0 in array.shape:
        hint = "; are these labels?" if array.ndim == 1 else ""
        message = (
            f"{name}: expected grey pictures of shape (height, width) or (n, height, width), "
            f"found shape {array.shape}{hint}"
        )
        raise PictureError(message)
    return array


def _as_bytes(pictures: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if pictures.dtype == np.uint8:
        return np.array(pictures)
    if pictures.dtype.kind not in "biuf":
        message = f"{name}: expected numbers, found {pictures.dtype}"
        raise PictureError(message)
    top = 255 if pictures.dtype.kind in "iu" else 1
    lowest, highest = float(pictures.min()), float(pictures.max())
    if not (math.isfinite(lowest + highest) and lowest >= 0 and highest <= top):
        message = (
            f"{name}: expected whole numbers from 0 to 255 or fractions from 0 to 1, found "
            f"{pictures.dtype} from {lowest:g} to {highest:g}"
        )
        raise PictureError(message)
    # The pipeline's own fractions, k / 255, come back as the very k.
    return np.rint(np.asarray(pictures, np.float64) * (255 / top)).astype(np.uint8)
