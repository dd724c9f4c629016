"""Which parts of a mask are strokes of a digit: not specks, not the edge of a sheet of paper."""

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.components import label_components

Mask = NDArray[np.bool_]

# A part smaller than this share of the largest is a speck.
_SPECK = 0.04
# A part on more than this share of the border lies along it.
_ALONG = 0.1


def strokes_of(mask: Mask) -> Mask:
    """Leave out the edge of a sheet, ruled lines and specks."""
    labels, count = label_components(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    foreign = _reaching_through(labels, count)
    inner = np.where(foreign, 0, sizes)
    if inner.max(initial=0) < _SPECK * sizes.max(initial=0):
        inner = sizes  # a digit that fills its picture touches the border, too
    kept = inner >= max(1.0, _SPECK * inner.max())
    strokes: Mask = kept[labels]
    return strokes


def _reaching_through(labels: NDArray[np.intp], count: int) -> Mask:
    """Tell of each part whether it goes from side to side or lies along the border."""
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    on = np.stack([np.bincount(side, minlength=count + 1) for side in sides])
    across = ((on[0] > 0) & (on[1] > 0)) | ((on[2] > 0) & (on[3] > 0))
    along = on.sum(axis=0) > _ALONG * sum(len(side) for side in sides)
    through: Mask = across | along
    through[0] = False
    return through


def grown(mask: Mask) -> Mask:
    """Return a mask and the pixels that touch it."""
    framed = np.pad(mask, 1)
    height, width = mask.shape
    larger = np.zeros_like(mask)
    for down in (0, 1, 2):
        for right in (0, 1, 2):
            larger |= framed[down : down + height, right : right + width]
    return larger
