"""The confusion matrix, drawn so that the errors are what one sees."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from digitflow.tasks.agg import Axes, Figure, LinearSegmentedColormap, PercentFormatter
from digitflow.tasks.figures.captions import set_title, shorten, title_height, width
from digitflow.tasks.figures.style import (
    FULL_WIDTH,
    GRID,
    HIGHLIGHT,
    SMALLEST_SIZE,
    WRONG,
    look,
)

# White for no error, darker for more: the order survives a grey-scale print. A few dozen steps
# are all that an eye tells apart, and leave room in the palette of the PNG.
_ERROR_COLOURS = LinearSegmentedColormap.from_list(
    "errors", ["white", "#F7DDAA", HIGHLIGHT, WRONG, "#7A3300"], N=32
)
_CORRECT_FILL = "#DFECF5"
_CORRECT_INK = "#005687"  # the blue of what is right, dark enough to read on its pale fill

_LONGEST_NAME = 20  # characters
_LISTED = 12  # confusions named below a matrix too fine for numbers
_LABEL_SIZE = 9.0  # points, of class names and counts where there is room

# Inches.
_LARGEST_CELL = 0.62
_SMALLEST_SIDE = 3.4  # few classes get larger cells: the colour scale's label needs the height
_AXIS_LABEL = 0.32
_TICK = 0.08
_SCALE = 1.15  # colour scale with its labels
_LINE = 0.2


@look()
def confusion_figure(confusion: pd.DataFrame, *, dataset: str, accuracy: float) -> Figure:
    """Draw a confusion matrix.

    Off the diagonal, colour is the share of the true class's images that went to the predicted
    one; the scale ends at the largest such share, so that rare errors show too. The diagonal, far
    larger, has a pale fill of its own. Counts stand in the cells as far as the cells hold legible
    digits; where they do not, the most frequent confusions are listed below.

    Parameters
    ----------
    confusion : DataFrame of int, shape (classes, classes)
        Rows true, columns predicted, as `tasks.nn.metrics.confusion_matrix` gives it.
    dataset : str
        Name for the title.
    accuracy : float
        Share of correct predictions, 0 to 1, for the title.

    Raises
    ------
    ValueError
        If the matrix is not square or is empty, or `accuracy` lies outside 0 to 1.
    """
    counts = confusion.to_numpy(dtype=np.int64)
    classes = len(counts)
    if classes == 0 or counts.shape != (classes, classes):
        message = f"expected a square confusion matrix, a row for each class: found {counts.shape}."
        raise ValueError(message)
    if not 0 <= accuracy <= 1:
        message = f"accuracy must be a share, 0 to 1: found {accuracy}."
        raise ValueError(message)
    names = [shorten(name, _LONGEST_NAME) for name in confusion.index]
    errors = np.where(np.eye(classes, dtype=bool), 0, counts)

    name_width, cell = _fit_cells(names)
    left = _AXIS_LABEL + name_width
    upright = name_width - _TICK > 0.95 * cell
    side = classes * cell
    below = _AXIS_LABEL + (name_width if upright else 2.2 * _TICK)
    numbered = _count_size(errors, cell) >= SMALLEST_SIZE
    listing = [] if numbered else _most_confused(errors, counts, names)
    list_height = (2 + math.ceil(len(listing) / 2)) * _LINE if listing else 0.0

    # Placed by hand, in inches: cells must be square, and as large as the width allows.
    full = min(FULL_WIDTH, max(7.0, left + side + _SCALE))
    said = f"accuracy {100 * accuracy:.2f} % of {counts.sum():,} test images"
    title = (dataset, "confusion matrix", said)
    height = 0.24 + title_height(full, *title) + side + below + list_height
    figure = Figure(figsize=(full, height))
    figure.set_layout_engine("none")
    set_title(figure, *title)
    bottom = (below + list_height) / height
    axes = figure.add_axes((left / full, bottom, side / full, side / height))
    scale = figure.add_axes(((left + side + 0.15) / full, bottom, 0.16 / full, side / height))
    _fill_cells(axes, scale, counts, errors)
    _write_counts(axes, counts, errors, cell)
    _name_classes(axes, names, cell, upright=upright)
    if listing:
        _write_list(figure, listing, list_height)
    return figure


def _fit_cells(names: list[str]) -> tuple[float, float]:
    """Return the width kept for class names and the side of a cell, in inches."""
    classes = len(names)
    cell = _LARGEST_CELL
    name_width = 0.0
    # Names shrink with the cells, and the room they free enlarges the cells a little again.
    for _ in range(3):
        name_width = max(width(name, _name_size(cell)) for name in names) + _TICK
        room = (FULL_WIDTH - _AXIS_LABEL - name_width - _SCALE) / classes
        cell = min(max(_LARGEST_CELL, _SMALLEST_SIDE / classes), room)
    return name_width, cell


def _fill_cells(
    axes: Axes, scale: Axes, counts: NDArray[np.int64], errors: NDArray[np.int64]
) -> None:
    rates = _rates(errors, counts)
    diagonal = np.eye(len(counts), dtype=bool)
    image = axes.imshow(
        np.ma.masked_array(rates, mask=diagonal | (errors == 0)),
        cmap=_ERROR_COLOURS,
        vmin=0.0,
        vmax=_top(rates),
        aspect="auto",
        interpolation="nearest",
    )
    axes.imshow(
        np.ma.masked_array(np.ones_like(rates), mask=~diagonal),
        cmap=LinearSegmentedColormap.from_list("correct", [_CORRECT_FILL, _CORRECT_FILL]),
        aspect="auto",
        interpolation="nearest",
    )
    edges = np.arange(len(counts) - 1) + 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(which="minor", color=GRID, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[["top", "right"]].set_visible(True)
    bar = axes.figure.colorbar(image, cax=scale)
    bar.formatter = PercentFormatter(1.0, symbol=" %")
    bar.set_label("errors: share of the true class's images")


def _write_counts(
    axes: Axes, counts: NDArray[np.int64], errors: NDArray[np.int64], cell: float
) -> None:
    """Write each count that is not zero, unless its kind does not fit the cells legibly."""
    rates = _rates(errors, counts)
    size_all = _count_size(counts, cell)
    size_errors = size_all if size_all >= SMALLEST_SIZE else _count_size(errors, cell)
    for row, column in np.argwhere(counts > 0):
        correct = row == column
        size = size_all if correct else size_errors
        if size < SMALLEST_SIZE:
            continue
        share = rates[row, column] / _top(rates)
        ink = _CORRECT_INK if correct else _readable_on(_ERROR_COLOURS(share))
        axes.text(
            column,
            row,
            f"{counts[row, column]:,}" if cell > 0.5 else str(counts[row, column]),
            color=ink,
            fontsize=size,
            ha="center",
            va="center_baseline",
        )


def _name_classes(axes: Axes, names: list[str], cell: float, *, upright: bool) -> None:
    size = _name_size(cell)
    # Beyond some 70 classes not every line has room for its name.
    step = math.ceil(0.98 * size / (72 * cell))
    ticks = range(0, len(names), step)
    labels = names[::step]
    axes.set_xticks(ticks, labels, fontsize=size, rotation=90 if upright else 0)
    axes.set_yticks(ticks, labels, fontsize=size)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def _most_confused(
    errors: NDArray[np.int64], counts: NDArray[np.int64], names: list[str]
) -> list[str]:
    rates = _rates(errors, counts)
    order = np.argsort(-errors, axis=None, kind="stable")[:_LISTED]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        f"{names[true]} → {names[predicted]}: {errors[true, predicted]:,} "
        f"({100 * rates[true, predicted]:.1f} %)"
        for true, predicted in pairs
        if errors[true, predicted] > 0
    ]


def _write_list(figure: Figure, listing: list[str], inches: float) -> None:
    height = figure.get_figheight()
    top = inches - 0.6 * _LINE
    figure.text(
        0.03,
        top / height,
        "Most frequent confusions, true → predicted: images (share of the true class's images)",
        fontweight="bold",
        va="center",
    )
    rows = math.ceil(len(listing) / 2)
    for place, text in enumerate(listing):
        column, row = divmod(place, rows)
        figure.text(0.03 + 0.48 * column, (top - (row + 1) * _LINE) / height, text, va="center")


def _rates(errors: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of its row that each error makes up; 0 in a row without samples."""
    rates: NDArray[np.float64] = errors / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return rates


def _top(rates: NDArray[np.float64]) -> float:
    """The end of the colour scale: the largest error share, or 1 % where there is no error."""
    return float(rates.max()) or 0.01


def _name_size(cell: float) -> float:
    """Points at which a line per cell fits, up to the size of the labels."""
    return max(SMALLEST_SIZE, min(_LABEL_SIZE, 0.85 * 72 * cell))


def _count_size(counts: NDArray[np.int64], cell: float) -> float:
    """Points at which the longest count fits a cell; in a large cell larger than the labels."""
    widest = width("0" * len(str(counts.max())), 1.0)
    return min(_LABEL_SIZE * max(1.0, cell), 0.88 * cell / widest, 0.8 * 72 * cell)


def _readable_on(colour: tuple[float, float, float, float]) -> str:
    """White or black, whichever contrasts more (relative luminance and contrast as in WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"
