"""The test images that a version gained and lost against another one, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from digitflow.storage.errors import StorageError
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.gate.difference import Images

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 20  # of each


def gained_and_lost(
    cache: Store, version: ModelVersion, other: ModelVersion, images: Images
) -> list[tuple[str, bytes]]:
    """Draw what only one of two versions gets right, each with what the other one takes it for.

    Returns
    -------
    list of (str, bytes)
        A title and a PNG for what was gained, and for what was lost; nothing where the test images
        are no longer in the store.
    """
    sides = (
        (f"Gained: wrong by version {other.version} alone", other, images.gained),
        (f"Lost: wrong by version {version.version} alone", version, images.lost),
    )
    return [
        (title, png)
        for title, wrong, places in sides
        if places and (png := _drawn(cache, title, wrong, places)) is not None
    ]


def _drawn(cache: Store, title: str, wrong: ModelVersion, places: Sequence[int]) -> bytes | None:
    from digitflow.tasks.figures.mistakes import mistakes_figure
    from digitflow.tasks.figures.png import to_png

    try:
        inputs, classes = (
            cache.read(cache.reference(wrong.data[name], "npy"))
            for name in ("test_inputs", "test_targets")
        )
        predictions = cache.read(wrong.predictions)
    except (StorageError, KeyError):
        return None
    chosen = list(places)
    # Everything else counts as right, so that these alone are shown, and under their own places.
    predicted = np.array(classes)
    predicted[chosen] = np.asarray(predictions["outputs"]).argmax(axis=1)[chosen]
    figure = mistakes_figure(
        inputs,
        np.asarray(classes),
        predicted,
        np.nan_to_num(predictions["losses"]),
        wrong.class_names,
        count=_SHOWN,
        dataset=title,
    )
    return to_png(figure)
