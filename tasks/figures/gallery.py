"""Training images with their labels: a handful chosen at random, or one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import Figure
from digitflow.tasks.figures.captions import fit
from digitflow.tasks.figures.style import look
from digitflow.tasks.figures.tiles import (
    CAPTION_SIZE,
    Pixels,
    Tile,
    check_images,
    tile_width,
    tiles_figure,
)

_COLUMNS = 5


def choose_gallery(images_flat: NDArray[Any], *, size: int, seed: int) -> NDArray[np.int64]:
    """Choose images at random, without repetition.

    The NumPy tutorial draws the images themselves,
    ``default_rng(seed).choice(images_flat, size=size, replace=False)``. Drawing from their number
    consumes the generator alike, so these are the indices of the very same images.

    Parameters
    ----------
    images_flat : array, shape (images, pixels) or (images, height, width)
        Only its length counts.
    size : int
        How many; at most the number of images.
    seed : int
        Of ``numpy.random.default_rng``.

    Returns
    -------
    int64 array, shape (size,)
        Indices, in the order drawn.

    Raises
    ------
    ValueError
        If `size` is negative or larger than the number of images.
    """
    images = len(images_flat)
    if not 0 <= size <= images:
        message = (
            f"size must lie in 0 … {images:,}, the number of images to choose from: found {size}."
        )
        raise ValueError(message)
    return np.random.default_rng(seed).choice(images, size=size, replace=False)


@look()
def gallery_figure(
    images: Pixels,
    labels: Sequence[object] | NDArray[Any],
    numbers: Sequence[int] | NDArray[np.integer[Any]],
    *,
    dataset: str,
) -> Figure:
    """Draw training images side by side, each with its label and index.

    Parameters
    ----------
    images : array, shape (n, height, width)
        Grey values, integer or float; drawn on one brightness scale.
    labels : sequence of int or str, length n
    numbers : sequence of int, length n
        Index of each in the training set, counted from 0, as `choose_gallery` returns them.
    dataset : str
        Name for the title.

    Raises
    ------
    ValueError
        If there is no image, the lengths differ, or a pixel is not finite.
    """
    check_images(images, dimensions=3)
    if not len(images) == len(labels) == len(numbers) or len(images) == 0:
        message = (
            "a gallery needs at least one image, and a label and an index for each: found "
            f"{len(images)} images, {len(labels)} labels, {len(numbers)} indices."
        )
        raise ValueError(message)
    room = tile_width(_COLUMNS)
    tiles = [
        Tile(image, fit(f"labelled {label}", room, CAPTION_SIZE), f"index {number:,}")
        for image, label, number in zip(images, labels, numbers, strict=True)
    ]
    which = f"{len(tiles)} random training image{'s' if len(tiles) > 1 else ''}"
    return tiles_figure(tiles, dataset, which, columns=_COLUMNS, tallest=3.4)


@look()
def image_figure(image: Pixels, label: object, *, number: int, dataset: str) -> Figure:
    """Draw one training image, grey on black.

    Parameters
    ----------
    image : array, shape (height, width)
        Grey values, integer or float.
    label : int or str
        Its class.
    number : int
        Which training image it is, counted from 1: 60,000 is the image at index 59,999.
    dataset : str
        Name for the title.

    Raises
    ------
    ValueError
        If `image` is not two-dimensional, is empty or holds a value that is not finite.
    """
    check_images(image, dimensions=2)
    title = (dataset, f"training image {number:,}", f"labelled {label}")
    return tiles_figure([Tile(image)], *title, columns=1, tallest=8.0, figure_width=5.0)
