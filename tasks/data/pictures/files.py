"""A file → grey pictures: PNG, JPEG, BMP, GIF, WebP, `.npy` or IDX; nothing it says is trusted."""

from __future__ import annotations

import io
import math
import struct
import tokenize
import warnings
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from digitflow.tasks.data.idx import arrays as idx

# The formats that cameras, phones, browsers and drawing programs write. TIFF and the dozens of
# others that Pillow knows have old C decoders with a long record of holes.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

# A phone's format: read where its decoder is installed, which is a choice of the reader's.
PHONE_SUFFIXES = (".heic", ".heif")

# By their endings: what a folder of pictures may hold beside them, and what to do about it.
_SAVE = "save it as PNG or JPEG"
OTHER_PICTURES = {
    **dict.fromkeys(
        PHONE_SUFFIXES,
        f"expected a picture, found a phone's format; {_SAVE}, or pip install 'digitflow[heic]'",
    ),
    ".avif": f"expected a picture, found a phone's format; {_SAVE}",
    **dict.fromkeys((".svg", ".eps", ".pdf"), f"expected a picture, found a drawing; {_SAVE}"),
    **dict.fromkeys(
        (".tif", ".tiff", ".jp2", ".psd", ".dng", ".raw", ".cr2", ".nef", ".tga", ".ico"),
        f"expected a picture ({', '.join(FORMATS)}), found a file of another kind; {_SAVE}",
    ),
}

# A phone's picture has some 50 million pixels at most. A file of some kilobytes can declare a
# thousand times as many; it is refused by its header, before any memory is taken.
MAX_PIXELS = 64_000_000

# In so many a digit of a fortieth of a large photograph has all of its strokes.
WORKING_SIZE = 1_600  # pixels, the longer side

# What Pillow's decoders are known to raise on damaged files.
_DAMAGED_PICTURE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_16_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")

_MAX_IDX_BYTES = 2 * 1024**3

# What NumPy is known to raise on damaged files: it reads the header as a Python literal.
_DAMAGED_NPY = (
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


class PictureError(Exception):
    """A file that should hold pictures cannot be read as such. The message names it."""


@cache
def reads_heic() -> bool:
    """Tell whether pictures in a phone's format can be read; Pillow learns it then."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener(thumbnails=False)
    return True


def is_readable_heic(file: Path) -> bool:
    """Tell by its ending whether a file is a picture in a phone's format that can be read."""
    return file.suffix.lower() in PHONE_SUFFIXES and reads_heic()


def decode_picture(file: Path, name: str) -> NDArray[np.float32]:
    """Read a PNG, JPEG, BMP, GIF or WebP file as grey values; HEIC where `reads_heic`.

    Turned as its camera says (EXIF). What is transparent lies before white or black, whichever is
    farther from what can be seen. A picture larger than `WORKING_SIZE` is averaged down.

    Parameters
    ----------
    file : Path
    name : str
        What error messages call it.

    Returns
    -------
    NDArray[float32], shape (height, width)
        From 0, black, to 255, white.

    Raises
    ------
    PictureError
        If it is no such picture, is damaged, declares more than `MAX_PIXELS`, or moves.
    """
    is_phones = is_readable_heic(file)
    formats = (*FORMATS, "HEIF") if is_phones else FORMATS
    try:
        with warnings.catch_warnings():
            # Of oddities that do not matter, such as a thumbnail that cannot be read.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as image:
                _check_size(image.size, name)
                # Of a phone's JPEG with several pictures inside, the first is the one.
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
                if frames > 1:
                    message = f"{name}: expected one picture, found {frames} that move"
                    raise PictureError(message)
                image.load()
                return _grey(ImageOps.exif_transpose(image))
    except PictureError:
        raise
    except UnidentifiedImageError:
        other = None if is_phones else OTHER_PICTURES.get(file.suffix.lower())
        kind = f"expected a picture ({', '.join(formats)}), found a file of another kind"
        message = f"{name}: {other or kind}"
        raise PictureError(message) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        message = f"{name}: expected at most {MAX_PIXELS:,} pixels, found more; scale it down"
        raise PictureError(message) from None
    except _DAMAGED_PICTURE as error:
        message = f"{name}: the picture is damaged or not complete: {str(error).strip()}"
        raise PictureError(message) from error


def declared_size(data: bytes) -> tuple[int, int]:
    """Return width and height that a picture declares, in pixels, without decoding it.

    Raises
    ------
    PictureError
        If it is no such picture, or its header is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except _DAMAGED_PICTURE as error:
        message = "expected a picture (PNG, JPEG, BMP, GIF, WebP), found something else"
        raise PictureError(message) from error


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        message = (
            f"{name}: expected at most {MAX_PIXELS:,} pixels, found {width:,} × {height:,}; "
            "scale it down"
        )
        raise PictureError(message)


def _grey(image: Image.Image) -> NDArray[np.float32]:
    if image.mode in _16_BITS:  # Pillow's own conversion would cut off what is above 255
        values = np.asarray(image).astype(np.float32) / 257
        return _reduced(Image.fromarray(np.clip(values, 0, 255)))
    if image.has_transparency_data:
        return _before_contrast(image.convert("RGBA"))
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    return _reduced(image.convert("L"))


def _before_contrast(image: Image.Image) -> NDArray[np.float32]:
    """Put what is drawn before white, or before black if it is light itself."""
    grey = _reduced(image.convert("RGB").convert("L"))
    alpha = _reduced(image.getchannel("A"))
    alpha /= 255
    drawn = float(alpha.sum())
    is_light = drawn > 0 and float((grey * alpha).sum()) / drawn > 127.5
    before: NDArray[np.float32] = grey * alpha
    if not is_light:
        before += 255 * (1 - alpha)
    return before


def _reduced(image: Image.Image) -> NDArray[np.float32]:
    factor = -(-max(image.size) // WORKING_SIZE)
    if factor > 1:
        image = image.reduce(factor)
    return np.asarray(image).astype(np.float32)


def is_array_file(start: bytes) -> bool:
    """Tell by its first bytes whether a file is `.npy`, or IDX, gzipped or plain."""
    if b"ftyp" in start:  # of phones' formats, which begin with two zero bytes as IDX does
        return False
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
    except _DAMAGED_NPY as error:
        message = f"{name}: expected a sound .npy file of numbers: {error}"
        raise PictureError(message) from error
    return array


def _read_idx(file: Path, name: str) -> NDArray[Any]:
    try:
        return idx.decode(file, name=name, max_bytes=_MAX_IDX_BYTES)
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
