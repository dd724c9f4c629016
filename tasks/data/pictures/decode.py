"""A picture file → grey values, whatever kind of picture it is; nothing that it says is trusted."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from digitflow.tasks.data.pictures.errors import PictureError

# The formats that cameras, phones, browsers and drawing programs write. TIFF and the dozens of
# others that Pillow knows have old C decoders with a long record of holes.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")

# A phone's picture has some 50 million pixels at most. A file of some kilobytes can declare a
# thousand times as many; it is refused by its header, before any memory is taken.
MAX_PIXELS = 64_000_000

# More than enough to find a digit in, and quick.
WORKING_SIZE = 400  # pixels, the longer side

# What Pillow's decoders are known to raise on damaged files.
_DAMAGE = (
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


def decode_picture(file: Path, name: str) -> NDArray[np.float32]:
    """Read a PNG, JPEG, BMP, GIF or WebP file as grey values.

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
    try:
        with warnings.catch_warnings():
            # Of oddities that do not matter, such as a thumbnail that cannot be read.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
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
        message = f"{name}: expected a picture ({', '.join(FORMATS)}), found a file of another kind"
        raise PictureError(message) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        message = f"{name}: expected at most {MAX_PIXELS:,} pixels, found more; scale it down"
        raise PictureError(message) from None
    except _DAMAGE as error:
        message = f"{name}: the picture is damaged or not complete: {error}"
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
