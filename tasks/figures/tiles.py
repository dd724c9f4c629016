"""Grey-scale images, each in axes of its own: what the figures that show images share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import Axes
from digitflow.tasks.figures.style import FULL_WIDTH, MUTED

# Figures of tiles have five in a row; what stands above and below one, centred, must not reach
# the next.
COLUMNS = 5
TILE_WIDTH = FULL_WIDTH / COLUMNS - 0.12
CAPTION_SIZE = 9.5
_SMALL_CAPTION_SIZE = 8.0

_SQUARES = 100

Pixels = NDArray[np.integer[Any] | np.floating[Any]]


def check_images(images: Pixels, dimensions: int) -> None:
    """Raise ValueError unless `images` has that many dimensions, and pixels, all finite."""
    if images.ndim != dimensions or 0 in images.shape[-2:]:
        expected = "(height, width)" if dimensions == 2 else "(images, height, width)"
        message = (
            f"expected grey-scale pixels of shape {expected}: found shape {images.shape}. "
            "Reshape flattened images first."
        )
        raise ValueError(message)
    if not np.isfinite(images).all():
        message = "pixels must be finite numbers: found NaN or infinity."
        raise ValueError(message)


def brightness(images: Pixels) -> tuple[float, float]:
    """Return the values to draw as black and as white, the same for all the images.

    White is the top of the scale the pixels seem to be on (255 for bytes, 1 for fractions), not
    the brightest pixel, so that a faint image looks faint.
    """
    lowest = float(images.min(initial=0))
    highest = float(images.max(initial=0))
    if highest <= 1:
        white = 1.0
    elif highest <= 255:
        white = 255.0
    else:
        white = highest
    return lowest, white


def show_tile(
    axes: Axes, image: Pixels, limits: tuple[float, float], above: str = "", below: str = ""
) -> None:
    """Draw one image, light on black as MNIST's are, framed, with captions above and below."""
    # Pixels as squares, unless the image has more of them than the tile has dots.
    interpolation = "nearest" if max(image.shape) <= _SQUARES else "auto"
    axes.imshow(image, cmap="gray", vmin=limits[0], vmax=limits[1], interpolation=interpolation)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color=MUTED, linewidth=0.8)
    axes.set_title(above, loc="center", fontsize=CAPTION_SIZE)
    axes.set_xlabel(below, fontsize=_SMALL_CAPTION_SIZE)
