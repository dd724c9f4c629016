"""How many things an image shows: digits side by side are several, and a network knows of one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.form import Form
from digitflow.tasks.data.pictures.ink import are_blank, label_components

# Of full ink: what is less joins digits that only nearly touch.
_INKED = 0.5
# Of the largest part. What is smaller belongs to it: a dot, the bar of a five.
_LEAST_HEIGHT, _LEAST_AREA = 0.5, 0.2
# Parts that share more than this of the narrower one's columns are strokes of one thing.
_SHARED_COLUMNS = 0.3
_BLOCK = 1_000


def count_things(images: NDArray[np.uint8], form: Form) -> NDArray[np.intp] | None:
    """Count what stands side by side on each image.

    Parameters
    ----------
    images : NDArray[uint8], shape (n, height, width)
        In that form.
    form : Form
        Of the images that a network was trained on.

    Returns
    -------
    NDArray[int], shape (n,), or None
        0 of a blank image. None of images that show no ink on a background, as photographs.
    """
    if not form.plain:
        return None
    counts = np.where(are_blank(images), 0, 1)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK].astype(np.float32)
        ink = (block - form.background) / (form.ink - form.background)
        mask: NDArray[np.bool_] = np.greater(ink, _INKED)
        for index in np.flatnonzero(_has_parts(mask) & (counts[start : start + _BLOCK] > 0)):
            counts[start + index] = _count(mask[index])
    return counts


def _has_parts(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell of each mask whether it has more than one connected part.

    From one pixel of each, what is connected grows by its neighbours until nothing is added:
    most images are one part, and are done with together.
    """
    flat = mask.reshape(len(mask), -1)
    reached = np.zeros_like(flat)
    reached[np.arange(len(flat)), flat.argmax(axis=1)] = True
    reached = reached.reshape(mask.shape) & mask
    growing = np.arange(len(mask))
    while len(growing):
        before = reached[growing]
        after = _grown(before) & mask[growing]
        reached[growing] = after
        growing = growing[(after != before).any(axis=(1, 2))]
    several: NDArray[np.bool_] = np.any(mask & ~reached, axis=(1, 2))
    return several


def _grown(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return masks and the pixels that touch them, corners included."""
    taller = masks.copy()
    taller[:, 1:] |= masks[:, :-1]
    taller[:, :-1] |= masks[:, 1:]
    larger = taller.copy()
    larger[:, :, 1:] |= taller[:, :, :-1]
    larger[:, :, :-1] |= taller[:, :, 1:]
    return larger


def _count(mask: NDArray[np.bool_]) -> int:
    """Count the groups of parts that are tall and large enough, by the columns that they take."""
    labels, count = label_components(mask)
    parts = [_Part(labels == number) for number in range(1, count + 1)]
    if not parts:
        return 1
    height, area = max(part.height for part in parts), max(part.area for part in parts)
    groups: list[tuple[int, int]] = []
    for part in sorted(parts, key=lambda each: each.first):
        if part.height < _LEAST_HEIGHT * height or part.area < _LEAST_AREA * area:
            continue
        if groups:
            first, last = groups[-1]
            shared = min(last, part.last) - part.first
            if shared > _SHARED_COLUMNS * min(last - first, part.last - part.first):
                groups[-1] = first, max(last, part.last)
                continue
        groups.append((part.first, part.last))
    return len(groups)


class _Part:
    """A connected part: its columns from first to behind the last, its height and its area."""

    def __init__(self, mask: NDArray[Any]) -> None:
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        self.first, self.last = int(columns[0]), int(columns[-1]) + 1
        self.height, self.area = int(rows[-1] - rows[0]) + 1, int(mask.sum())
