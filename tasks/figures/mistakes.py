"""The test images a network got most wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import Figure
from digitflow.tasks.figures.captions import drawable, fit, set_title, width
from digitflow.tasks.figures.style import FULL_WIDTH, MUTED, look
from digitflow.tasks.figures.tiles import (
    CAPTION_SIZE,
    Pixels,
    Tile,
    check_images,
    tile_width,
    tiles_figure,
)

_COLUMNS = 5

ClassIds = NDArray[np.integer[Any]]


def worst_mistakes(
    labels: ClassIds, predicted: ClassIds, losses: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Return the indices of all wrong predictions, the largest loss first.

    Of equal losses the lower index comes first. All arguments have shape (n,).
    """
    wrong = np.flatnonzero(labels != predicted)
    return wrong[np.argsort(-losses[wrong], kind="stable")]


@look()
def mistakes_figure(
    images: Pixels,
    labels: ClassIds,
    predicted: ClassIds,
    losses: NDArray[np.floating[Any]],
    class_names: Sequence[str],
    *,
    count: int,
    dataset: str,
) -> Figure:
    """Draw the wrongly classified test images with the largest losses.

    Parameters
    ----------
    images : array, shape (n, height, width)
        The test set, grey values, integer or float; only the images shown are read.
    labels, predicted : integer arrays, shape (n,)
        True and predicted class ids.
    losses : float array, shape (n,)
        Loss of each test image; orders the mistakes.
    class_names : sequence of str
        Name of class 0, 1, …
    count : int
        Images to show at most; at least 1. Fewer mistakes are all shown, and none is said.
    dataset : str
        Name for the title.

    Raises
    ------
    ValueError
        If `count` is below 1, a shape does not fit, or a loss or a shown pixel is not finite.
    """
    _check(images, labels, predicted, losses, count)
    ranked = worst_mistakes(labels, predicted, losses)
    if ranked.size == 0:
        return _no_mistakes(len(images), dataset)

    shown = ranked[:count]
    pixels = np.asarray(images[shown])
    check_images(pixels, dimensions=3)
    names = [drawable(name) for name in class_names]
    captions = _captions([(names[labels[i]], names[predicted[i]]) for i in shown])
    tiles = [
        Tile(image, above, f"index {index:,} · loss {losses[index]:.2f}")
        for image, above, index in zip(pixels, captions, shown, strict=True)
    ]
    which = _summary(shown.size, ranked.size, len(images))
    return tiles_figure(tiles, dataset, which, columns=_COLUMNS, tallest=3.4)


def _captions(pairs: list[tuple[str, str]]) -> list[str]:
    """Say what was taken for what, alike for every pair: as wordy as the tiles have room for."""
    room = tile_width(_COLUMNS)
    for between in (" → predicted ", "\n→ predicted ", "\n→ "):
        captions = [f"true {true}{between}{guess}" for true, guess in pairs]
        lines = [line for caption in captions for line in caption.split("\n")]
        if all(width(line, CAPTION_SIZE) <= room for line in lines):
            return captions
    return [
        "\n".join(fit(line, room, CAPTION_SIZE) for line in (f"true {true}", f"→ {guess}"))
        for true, guess in pairs
    ]


def _summary(shown: int, mistakes: int, images: int) -> str:
    of = f"{mistakes:,} mistake{'s' if mistakes > 1 else ''} among {images:,} test images"
    if shown < mistakes:
        return f"the {shown} worst of {of}" if shown > 1 else f"the worst of {of}"
    return f"{of}, worst first" if mistakes > 1 else of


def _no_mistakes(images: int, dataset: str) -> Figure:
    figure = Figure(figsize=(FULL_WIDTH, 1.1))
    set_title(figure, dataset, "most mistaken test images")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.text(0.01, 0.5, f"no mistakes among {images:,} images", color=MUTED, va="center")
    return figure


def _check(
    images: Pixels,
    labels: ClassIds,
    predicted: ClassIds,
    losses: NDArray[np.floating[Any]],
    count: int,
) -> None:
    if count < 1:
        message = f"count must be at least 1 image to show: found {count}."
        raise ValueError(message)
    shape = (len(images),)
    for array, what in ((labels, "labels"), (predicted, "predicted"), (losses, "losses")):
        if array.shape != shape:
            message = f"{what} must have shape {shape}, one for each image: found {array.shape}."
            raise ValueError(message)
    if not np.isfinite(losses).all():
        message = "losses must be finite to be put in order: found NaN or infinity."
        raise ValueError(message)
