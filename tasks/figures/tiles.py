"""Grey-scale images in rows, with captions: what the figures that show images share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import Figure, Rectangle
from digitflow.tasks.figures.captions import set_title, title_height
from digitflow.tasks.figures.style import DOTS, FULL_WIDTH, HIGHLIGHT, MUTED

CAPTION_SIZE = 9.5

# Inches.
_BETWEEN = 11 / DOTS  # between two tiles, and at the edges
_ROOM = 0.05  # between a tile and its caption

_SQUARES = 100

Pixels = NDArray[np.integer[Any] | np.floating[Any]]


class Tile(NamedTuple):
    """A picture and what stands about it.

    Attributes
    ----------
    image : array, shape (height, width)
        Grey values, integer or float.
    above, below : str
        Captions, each of one line or more, no line wider than `tile_width`.
    is_marked : bool
        Whether the frame is one that a person is to look at.
    """

    image: Pixels
    above: str = ""
    below: str = ""
    is_marked: bool = False


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


def tile_width(columns: int, figure_width: float = FULL_WIDTH) -> float:
    """Return how many inches wide a tile and its captions may be."""
    return _in_dots((figure_width - _BETWEEN) / columns) - _BETWEEN


def tiles_figure(
    tiles: Sequence[Tile],
    *title: str,
    columns: int,
    tallest: float,
    small: float = 8.0,
    figure_width: float = FULL_WIDTH,
) -> Figure:
    """Draw images of one size in rows, light on black as MNIST's are, on one brightness scale.

    All stand in the same axes, which are in inches: axes for each would take most of the time.

    Parameters
    ----------
    tiles : sequence of Tile
        At least one, in reading order.
    *title : str
        Parts of the title, dataset first.
    columns : int
        Tiles in a row.
    tallest : float
        Height in inches that an image has at most.
    small : float
        Size of the captions below, in points; those above have `CAPTION_SIZE`.
    figure_width : float
        In inches.
    """
    height, width = tiles[0].image.shape
    room = tile_width(columns, figure_width)
    # All in whole dots, so that captions of the same words are the same dots, and compress.
    across = _in_dots(min(room, tallest * width / height))
    down = _in_dots(across * height / width)
    above = _caption_height([tile.above for tile in tiles], CAPTION_SIZE)
    row = above + down + _caption_height([tile.below for tile in tiles], small) + _BETWEEN
    top = _in_dots(title_height(figure_width, *title) + _BETWEEN)
    full = top + math.ceil(len(tiles) / columns) * row

    figure = Figure(figsize=(figure_width, full))
    figure.set_layout_engine("none")
    set_title(figure, *title)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, figure_width), ylim=(full, 0))
    axes.set_axis_off()
    black, white = brightness(np.stack([tile.image for tile in tiles]))
    for place, tile in enumerate(tiles):
        centre = _BETWEEN + place % columns * (room + _BETWEEN) + room / 2
        left, upper = _in_dots(centre - across / 2), top + place // columns * row + above
        axes.imshow(
            tile.image,
            cmap="gray",
            vmin=black,
            vmax=white,
            # Pixels as squares, unless the image has more of them than the tile has dots.
            interpolation="nearest" if max(height, width) <= _SQUARES else "auto",
            extent=(left, left + across, upper + down, upper),
            aspect="auto",
        )
        colour, line = (HIGHLIGHT, 2.5) if tile.is_marked else (MUTED, 0.8)
        axes.add_patch(
            Rectangle((left, upper), across, down, fill=False, color=colour, linewidth=line)
        )
        axes.text(centre, upper - _ROOM, tile.above, ha="center", size=CAPTION_SIZE)
        below = upper + down + _ROOM
        axes.text(centre, below, tile.below, ha="center", va="top", size=small)
    return figure


def _in_dots(inches: float) -> float:
    """Return the longest length of whole dots that is no longer, but one dot at least."""
    return max(math.floor(inches * DOTS + 1e-6), 1) / DOTS


def _caption_height(captions: list[str], points: float) -> float:
    """Return the inches that the tallest of some captions takes, with the room about it."""
    lines = max(0 if not caption else caption.count("\n") + 1 for caption in captions)
    return _in_dots(lines * 1.3 * points / 72 + 2 * _ROOM) if lines else 0.0
