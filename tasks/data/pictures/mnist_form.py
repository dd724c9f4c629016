"""A picture of a digit → MNIST's form, as its authors describe it.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20×20
pixel box while preserving their aspect ratio. […] the images were centered in a 28×28 image by
computing the center of mass of the pixels, and translating the image so as to position this point
at the center of the 28×28 field." Source: http://yann.lecun.com/exdb/mnist/

A photograph is not bilevel; `tasks.data.pictures.ink` finds what is ink on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digitflow.tasks.data.pictures.ink import find_ink, grown

Floats = NDArray[np.float64]

# Of the longer side of a digit. By the measure below 9 in 10 of MNIST's test images lie between
# 0.06 and 0.15; a ballpoint's stroke on a digit of some centimetres is 0.02.
LEAST_BREADTH = 0.08

# Smaller digits have too few pixels to measure a stroke by.
_LEAST_SIDE = 60

BOX_SHARE = 20 / 28  # of height and width, for images of other sizes than MNIST's


def broaden(ink: Floats) -> Floats:
    """Make thin strokes broader; leave others, and small pictures, as they are.

    Scaled to 20 pixels, a ballpoint's stroke would be half a pixel of grey.

    Parameters
    ----------
    ink : NDArray[float64], shape (height, width)
        How much ink there is at each pixel, 0 to 1.
    """
    side = max(ink.shape)
    missing = round((LEAST_BREADTH * side - stroke_breadth(ink)) / 2)
    if side < _LEAST_SIDE or missing < 1:
        return ink
    broader = np.pad(ink, missing)
    for step in range(missing):
        framed = np.pad(broader, 1)
        neighbours = [framed[1:-1, :-2], framed[1:-1, 2:], framed[:-2, 1:-1], framed[2:, 1:-1]]
        if step % 2:  # by turns a cross and a square: nearly a disc
            neighbours += [framed[:-2, :-2], framed[:-2, 2:], framed[2:, :-2], framed[2:, 2:]]
        broader = np.maximum.reduce([broader, *neighbours])
    return broader


def stroke_breadth(ink: Floats) -> float:
    """Return how broad strokes are on average, in pixels: their area over half their outline."""
    mask = np.pad(ink > 0.5, 1)
    outline = mask & grown(~mask)
    return 2 * float(mask.sum()) / max(1.0, float(outline.sum()))


def to_mnist_form(
    picture: NDArray[Any], size: tuple[int, int] = (28, 28)
) -> NDArray[np.uint8] | None:
    """Bring a picture of one digit to the form of MNIST's images.

    Parameters
    ----------
    picture : NDArray, shape (height, width)
        Grey values from 0 to 255, dark on light or light on dark.
    size : tuple[int, int]
        Height and width of the image, in pixels.

    Returns
    -------
    NDArray[uint8], shape `size`, or None
        Light on black; None if the picture is blank: nothing stands out from its background.
    """
    ink = find_ink(np.asarray(picture, np.float64))
    if ink is None:
        return None
    height, width = size
    box = (round(height * BOX_SHARE), round(width * BOX_SHARE))
    return centre(fit_box(broaden(ink), box), size)


def fit_box(ink: NDArray[np.float64], box: tuple[int, int]) -> NDArray[np.float64]:
    """Scale ink, 0 to 1, to just fit a box (rows, columns); its aspect ratio stays."""
    height, width = ink.shape
    scale = min(box[0] / height, box[1] / width)
    new = (max(1, round(width * scale)), max(1, round(height * scale)))
    if new != (width, height):
        # Pillow widens the filter as it scales down, so that every pixel counts.
        image = Image.fromarray(ink.astype(np.float32))
        ink = np.asarray(image.resize(new, Image.Resampling.BILINEAR), np.float64)
    # Thin strokes come out grey; in MNIST the middle of a stroke is white.
    scaled: NDArray[np.float64] = ink / ink.max()
    return scaled


def centre(ink: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Put ink, 0 to 1, on a black image of `size` so that its centre of mass is in the middle.

    The middle is the point `size` / 2 counting pixels from 0, and the move is by whole pixels: so
    it is in MNIST itself, where every centre of mass is within half a pixel of (14, 14).
    """
    image = np.zeros(size, np.uint8)
    height, width = ink.shape
    mass = ink.sum()
    row = float(ink.sum(axis=1) @ np.arange(height)) / mass
    column = float(ink.sum(axis=0) @ np.arange(width)) / mass
    # Nothing may be cut off, however uneven the ink.
    top = int(np.clip(round(size[0] / 2 - row), 0, size[0] - height))
    left = int(np.clip(round(size[1] / 2 - column), 0, size[1] - width))
    image[top : top + height, left : left + width] = np.rint(ink * 255)
    return image
