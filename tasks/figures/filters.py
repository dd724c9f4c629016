"""What the first layer looks at: its weights, drawn as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.agg import Figure
from digitflow.tasks.figures.captions import set_title
from digitflow.tasks.figures.style import FULL_WIDTH, look

MOST_FILTERS = 40
_COLUMNS = 10  # of square filters
_SMALLEST, _LARGEST = 1.25, 9.0  # height of the figure, in inches


def first_layer_filters(
    weights: Mapping[str, NDArray[Any]], height: int, width: int
) -> NDArray[np.float64]:
    """Return the weights of a network's first layer, one picture per unit or kernel.

    Parameters
    ----------
    weights : mapping of str to array
        What a model file holds, in its order. A dense layer's are of shape (height · width, units),
        a convolution's of shape (kernels, k, k, 1).
    height, width : int
        Of the images.

    Returns
    -------
    NDArray[float64], shape (units, height, width) or (kernels, k, k)

    Raises
    ------
    ValueError
        If no array can be the first layer's.
    """
    for array in weights.values():
        if array.ndim == 2 and len(array) == height * width:
            return array.T.reshape(-1, height, width).astype(np.float64)
        if array.ndim == 4 and array.shape[-1] == 1:
            return array[..., 0].astype(np.float64)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in weights.items())
    message = (
        f"expected weights of shape ({height * width}, units) or (kernels, k, k, 1), "
        f"found {shapes or 'none'}"
    )
    raise ValueError(message)


@look()
def filters_figure(filters: NDArray[np.float64], *, dataset: str) -> Figure:
    """Draw the first layer's filters, those with the largest weights first.

    Parameters
    ----------
    filters : NDArray[float64], shape (n, height, width)
        At most `MOST_FILTERS` are drawn, on one scale around 0.
    dataset : str
        Name for the title.

    Raises
    ------
    ValueError
        If there are no filters, or a weight is not finite.
    """
    if filters.ndim != 3 or not filters.size or not np.isfinite(filters).all():
        message = f"expected finite filters of shape (n, height, width), found {filters.shape}"
        raise ValueError(message)
    strength = np.sqrt((filters**2).sum(axis=(1, 2)))
    shown = np.argsort(-strength, kind="stable")[:MOST_FILTERS]
    # Long ones side by side, or one above the other, make a picture of a sensible shape.
    slimness = math.sqrt(filters.shape[1] / filters.shape[2])
    columns = min(max(round(_COLUMNS * slimness), 1), MOST_FILTERS)
    rows = math.ceil(len(shown) / columns)
    mosaic = _mosaic(filters[shown], rows, columns)
    height = FULL_WIDTH * 0.9 * mosaic.shape[0] / mosaic.shape[1]
    figure = Figure(figsize=(FULL_WIDTH, min(max(0.5 + height, _SMALLEST), _LARGEST)))
    which = f"all {len(filters)} filters"
    if len(filters) > len(shown):
        which = f"the {len(shown)} strongest of {len(filters):,} filters"
    set_title(figure, dataset, f"first layer, {which}")
    axes = figure.add_subplot()
    # Weights are signed: a map with two ends and a light middle, safe for any colour vision.
    largest = float(np.abs(filters[shown]).max()) or 1.0
    picture = axes.imshow(mosaic, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
    axes.set_axis_off()
    figure.colorbar(picture, ax=axes, label="weight", pad=0.01, aspect=12 * max(rows, 1))
    return figure


def _mosaic(filters: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Lay filters out in rows with gaps between them, which show as nothing."""
    count, height, width = filters.shape
    gap = max(1, min(height, width) // 14)
    mosaic = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for place in range(count):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        mosaic[top : top + height, left : left + width] = filters[place]
    return mosaic
