"""A batch of pictures with what a model sees on them, the least certain first."""

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

_COLUMNS = 8
_NAME_SIZE = 7.0

# Below this probability a picture is framed, for people to look at, as what is unsure is.
UNSURE = 0.8


def choose_for_sheet(
    probabilities: NDArray[np.floating[Any]], *, count: int, seed: int
) -> NDArray[np.intp]:
    """Choose which pictures a contact sheet shows, and in which order.

    All of them if they are so few; else half of the places go to the least certain ones and the
    rest to others at random, so that the sheet shows what is usual, too.

    Parameters
    ----------
    probabilities : array, shape (n,)
        Of the predicted class of each picture.
    count : int
        How many at most.
    seed : int
        Of ``numpy.random.default_rng``.

    Returns
    -------
    int array, shape (at most count,)
        Indices, by rising probability.
    """
    order = np.argsort(probabilities, kind="stable")
    if len(order) <= count:
        return order
    unsure = (count + 1) // 2
    others = np.random.default_rng(seed).choice(
        len(order) - unsure, size=count - unsure, replace=False
    )
    places = np.concatenate([np.arange(unsure), unsure + np.sort(others)])
    chosen: NDArray[np.intp] = order[places]
    return chosen


@look()
def contact_sheet_figure(
    images: Pixels,
    labels: Sequence[str],
    probabilities: Sequence[float],
    names: Sequence[str],
    *,
    total: int,
    title: str,
    unsure: Sequence[bool] | None = None,
) -> Figure:
    """Draw pictures as the network saw them, each with its class and probability.

    Parameters
    ----------
    images : array, shape (n, height, width)
        Grey values, in the order in which they are drawn.
    labels : sequence of str, length n
        Predicted class.
    probabilities : sequence of float, length n
        Of that class, 0 to 1.
    names : sequence of str, length n
        What each picture is called; its end is shown.
    total : int
        How many pictures the batch has.
    title : str
        What stands first in the title, such as the model.
    unsure : sequence of bool, length n, optional
        Whether the model does not know what a picture shows, which its caption says.

    Raises
    ------
    ValueError
        If there is no picture, the lengths differ, or a pixel is not finite.
    """
    check_images(images, dimensions=3)
    count = len(images)
    unsure = [False] * count if unsure is None else unsure
    if not count == len(labels) == len(probabilities) == len(names) == len(unsure) or not count:
        message = (
            "a contact sheet needs at least one picture, and a class, a probability and a name "
            f"for each: found {count} pictures, {len(labels)} classes, {len(probabilities)} "
            f"probabilities, {len(names)} names."
        )
        raise ValueError(message)
    room = tile_width(_COLUMNS)
    tiles = [
        Tile(
            image,
            f"{fit(label, room, CAPTION_SIZE)}\n"
            + ("unsure" if in_doubt else f"{probability * 100:.1f} %"),
            fit(name, room, _NAME_SIZE),
            in_doubt or probability < UNSURE,
        )
        for image, label, probability, name, in_doubt in zip(
            images, labels, probabilities, names, unsure, strict=True
        )
    ]
    which = _summary(count, total)
    return tiles_figure(tiles, title, which, columns=_COLUMNS, tallest=2.0, small=_NAME_SIZE)


def _summary(count: int, total: int) -> str:
    if count == total:
        of = f"{count:,} picture{'s' if count > 1 else ''}"
        return f"{of}, least certain first" if count > 1 else of
    unsure = (count + 1) // 2
    return (
        f"the {unsure} least certain and {count - unsure} at random of {total:,} pictures, least "
        "certain first"
    )
