"""How accuracy and error developed over the epochs of a training run."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from digitflow.tasks.agg import Axes, Figure, FuncFormatter
from digitflow.tasks.figures.captions import set_title
from digitflow.tasks.figures.style import FULL_WIDTH, HIGHLIGHT, INK, MUTED, RIGHT, WRONG, look

# Beyond this many epochs, markers would touch and hide the dashes.
_MARKED_EPOCHS = 30

# The tutorial's single axis shows both quantities well only within these.
_LOWEST_ACCURACY_ABOVE = 0.9
_LARGEST_ERROR = 1.5

# An error that falls by more than this factor is drawn on a logarithmic scale.
_LOGARITHMIC_FROM = 30.0


class _Quantity(NamedTuple):
    name: str
    axis_label: str
    colour: str
    line: str
    marker: str


# Told apart by colour, line style and marker, so that any one of them suffices.
_ACCURACY = _Quantity("accuracy", "accuracy (share of images)", RIGHT, "-", "o")
_ERROR = _Quantity("error", "error (mean loss per image)", WRONG, "--", "s")

_Curves = dict[_Quantity, NDArray[np.float64]]


@look()
def learning_curves_figure(history: pd.DataFrame, *, dataset: str) -> Figure:
    """Draw accuracy and error over the epochs, training set beside test set.

    As in the NumPy tutorial "Deep learning on MNIST", both quantities share one axis while that
    shows them well. Where it does not (every accuracy above 0.9, or an error above 1.5), they get
    a row each. The panels of a row share their y axis. A star marks the epoch with the best
    held-out accuracy, the first of equals.

    Parameters
    ----------
    history : DataFrame, one row an epoch
        Columns ``epoch`` (counted from 0; drawn from 1), ``train_loss``, ``train_accuracy`` and
        ``test_loss``, ``test_accuracy``, or ``validation_…`` in place of ``test_…``. Where both
        pairs are there, the test set is drawn. Other columns are left alone. Values that are not
        finite interrupt their line, and a note counts them.
    dataset : str
        Name for the title.

    Raises
    ------
    ValueError
        If a column is missing or there is no epoch.
    """
    held_out = _held_out(history)
    epochs = history["epoch"].to_numpy(dtype=np.int64) + 1
    parts = {part: _curves(history, part) for part in ("train", held_out)}
    together = _fit_one_axis([*parts.values()])
    rows = [[_ACCURACY, _ERROR]] if together else [[_ACCURACY], [_ERROR]]

    figure = Figure(figsize=(FULL_WIDTH, 3.7 if together else 5.2))
    set_title(figure, dataset, "learning curves")
    panels = figure.subplots(len(rows), 2, sharex=True, sharey="row", squeeze=False)
    for axes_row, quantities in zip(panels, rows, strict=True):
        for axes, curves in zip(axes_row, parts.values(), strict=True):
            for quantity in quantities:
                _draw(axes, epochs, quantity, curves[quantity])
        shown = [curves[quantity] for curves in parts.values() for quantity in quantities]
        # The axes of a row share their scale: setting one sets both.
        _scale(axes_row[0], quantities, shown)
        axes_row[0].set_ylabel("\n".join(quantity.axis_label for quantity in quantities))
        for axes, curves in zip(axes_row, parts.values(), strict=True):
            _label_ends(axes, {quantity: curves[quantity] for quantity in quantities})

    panels[0, 0].set_title("Training set")
    best = _mark_best(panels[0, 1], epochs, parts[held_out][_ACCURACY])
    panels[0, 1].set_title(f"{held_out.capitalize()} set{best}")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    _epoch_axis(panels[0, 0], int(epochs.min()), int(epochs.max()))
    missing = sum(int(np.isnan(v).sum()) for curves in parts.values() for v in curves.values())
    if missing:
        note = f"Not drawn: {missing} value{'s' if missing > 1 else ''} NaN or infinite."
        figure.supxlabel(note, x=0.01, ha="left", fontsize="medium", color=INK)
    return figure


def _held_out(history: pd.DataFrame) -> str:
    """Return "test" or "validation", whichever the history has, once its columns are complete."""
    present = set(history.columns)
    held_out = "validation"
    if {"test_loss", "test_accuracy"} <= present:
        held_out = "test"
    needed = ["epoch", "train_loss", "train_accuracy"]
    needed += [f"{held_out}_loss", f"{held_out}_accuracy"]
    if not present.issuperset(needed):
        message = (
            "a history needs the columns epoch, train_loss, train_accuracy and test_loss, "
            "test_accuracy (or validation_loss, validation_accuracy): found "
            f"{', '.join(map(str, history.columns)) or 'none'}."
        )
        raise ValueError(message)
    if history.empty:
        message = "the history has no rows: expected at least one epoch to draw."
        raise ValueError(message)
    return held_out


def _curves(history: pd.DataFrame, part: str) -> _Curves:
    """Return the part's curves, NaN for whatever is not finite."""
    columns = {_ACCURACY: f"{part}_accuracy", _ERROR: f"{part}_loss"}
    curves = {}
    for quantity, column in columns.items():
        values = history[column].to_numpy(dtype=np.float64)
        curves[quantity] = np.where(np.isfinite(values), values, np.nan)
    return curves


def _finite(*values: NDArray[np.float64]) -> NDArray[np.float64]:
    joined = np.concatenate(values)
    return joined[np.isfinite(joined)]


def _fit_one_axis(parts: list[_Curves]) -> bool:
    accuracy = _finite(*(curves[_ACCURACY] for curves in parts))
    error = _finite(*(curves[_ERROR] for curves in parts))
    return bool(
        accuracy.min(initial=np.inf) <= _LOWEST_ACCURACY_ABOVE
        and error.max(initial=-np.inf) <= _LARGEST_ERROR
    )


def _draw(
    axes: Axes, epochs: NDArray[np.int64], quantity: _Quantity, values: NDArray[np.float64]
) -> None:
    # A single value between two gaps has no line: only a marker shows it.
    marked = len(epochs) <= _MARKED_EPOCHS or bool(np.isnan(values).any())
    axes.plot(
        epochs,
        values,
        color=quantity.colour,
        linestyle=quantity.line,
        linewidth=1.8,
        marker=quantity.marker if marked else "",
        markersize=4,
        label=quantity.name,
        clip_on=False,
    )
    axes.grid(True, axis="y")


def _scale(axes: Axes, quantities: list[_Quantity], shown: list[NDArray[np.float64]]) -> None:
    values = _finite(*shown)
    if len(quantities) == 2:
        axes.set_ylim(0.0, max(1.0, 1.05 * values.max()))
        return
    if values.size == 0:
        return
    low, high = float(values.min()), float(values.max())
    if quantities == [_ERROR] and low > 0 and high / low > _LOGARITHMIC_FROM:
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        return
    margin = 0.08 * (high - low) or 0.01
    if quantities == [_ACCURACY]:
        axes.set_ylim(max(0.0, low - margin), min(1.0, high + margin))
    else:
        axes.set_ylim(0.0 if low >= 0 else low - margin, high + margin)


def _label_ends(axes: Axes, curves: _Curves) -> None:
    """Name each line at its right end with its last value, the names kept apart."""
    ends = {q: _finite(values)[-1] for q, values in curves.items() if _finite(values).size}
    if len(ends) < len(curves):
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=MUTED)
    bottom, top = axes.get_ylim()
    apart = 0.075 * (top - bottom)
    places = dict(ends)
    if len(ends) == 2 and abs(ends[_ACCURACY] - ends[_ERROR]) < apart:
        middle = float(np.clip(sum(ends.values()) / 2, bottom + apart / 2, top - apart / 2))
        upper, lower = sorted(ends, key=lambda q: ends[q], reverse=True)
        places = {upper: middle + apart / 2, lower: middle - apart / 2}
    for quantity, value in ends.items():
        axes.annotate(
            f"{quantity.name} {value:{'.3f' if 0.1 <= value < 100 else '.3g'}}",
            xy=(1.0, places[quantity]),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            color=quantity.colour,
            va="center",
            annotation_clip=False,
        )


def _mark_best(axes: Axes, epochs: NDArray[np.int64], accuracy: NDArray[np.float64]) -> str:
    """Put a star on the best epoch and return what it means, or nothing if there is none."""
    if np.isnan(accuracy).all():
        return ""
    best = int(np.nanargmax(accuracy))
    axes.plot(
        epochs[best],
        accuracy[best],
        marker="*",
        markersize=15,
        markerfacecolor=HIGHLIGHT,
        markeredgecolor=INK,
        markeredgewidth=0.8,
        linestyle="",
        label="best epoch",
        clip_on=False,
        zorder=5,
    )
    return f" (★ best accuracy {accuracy[best]:.4g}, epoch {epochs[best]})"


def _epoch_axis(axes: Axes, first: int, last: int) -> None:
    pad = 0.02 * (last - first) or 0.5
    axes.set_xlim(first - pad, last + pad)
    # Round numbers, at most some eight of them, between the first and the last epoch.
    step = next(s for e in range(10) for s in (10**e, 2 * 10**e, 5 * 10**e) if 8 * s > last - first)
    between = [t for t in range(0, last, step) if first + step / 2 <= t <= last - step / 2]
    axes.set_xticks(sorted({first, *between, last}))
