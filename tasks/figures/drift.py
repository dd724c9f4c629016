"""What a model predicts now beside what it predicted on its test set, and how that went on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from digitflow.tasks.agg import Axes, Figure, MaxNLocator, PercentFormatter
from digitflow.tasks.figures.captions import set_title, shorten
from digitflow.tasks.figures.style import FULL_WIDTH, HIGHLIGHT, MUTED, RIGHT, WRONG, look

_MOST_NAME = 12  # characters of a class's name


@look()
def drift_figure(
    class_names: Sequence[str],
    then: Sequence[float],
    now: Sequence[float],
    indices: Sequence[float],
    confidences: Sequence[float],
    *,
    confidence_then: float,
    thresholds: tuple[float, float],
    title: str,
) -> Figure:
    """Draw shares of the classes, and each batch's stability index and confidence.

    Parameters
    ----------
    class_names : sequence of str
    then, now : sequence of float, one a class
        Share of pictures that are predicted to be of it, on the test set and lately.
    indices, confidences : sequence of float, one a batch, oldest first
        Population stability index; mean probability of the predicted class.
    confidence_then : float
        The latter on the test set.
    thresholds : tuple of two floats
        Indices from which on a batch is to be watched, and counts as drifted.
    title : str
        What stands first in the title, such as the model.

    Raises
    ------
    ValueError
        If lengths differ or there is no batch.
    """
    if not len(class_names) == len(then) == len(now) or not len(indices) == len(confidences) > 0:
        message = (
            "expected two shares a class, and at least one batch with an index and a confidence: "
            f"found {len(class_names)} classes, {len(then)} and {len(now)} shares, "
            f"{len(indices)} indices, {len(confidences)} confidences."
        )
        raise ValueError(message)
    figure = Figure(figsize=(FULL_WIDTH, 3.9))
    batches = f"the last {len(indices)} batches" if len(indices) > 1 else "the last batch"
    set_title(figure, title, "predictions now and on the test set", batches)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1))
    _shares(figure.add_subplot(grid[:, 0]), class_names, then, now)
    above = figure.add_subplot(grid[0, 1])
    _indices(above, indices, thresholds)
    below = figure.add_subplot(grid[1, 1], sharex=above)
    _confidences(below, confidences, confidence_then)
    return figure


def _shares(
    axes: Axes, class_names: Sequence[str], then: Sequence[float], now: Sequence[float]
) -> None:
    places = np.arange(len(class_names))
    axes.barh(places - 0.2, then, 0.38, color="#B3B3B3", label="test set")
    axes.barh(places + 0.2, now, 0.38, color=RIGHT, label="now")
    axes.set_yticks(places, [shorten(name, _MOST_NAME) for name in class_names])
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of the pictures")
    axes.set_xlim(0, 1.25 * max(*then, *now, 0.01))
    axes.set_title("Predicted class")
    axes.legend(frameon=False, loc="lower right", fontsize="small")


def _indices(axes: Axes, indices: Sequence[float], thresholds: tuple[float, float]) -> None:
    places = np.arange(1, len(indices) + 1)
    watch, drifted = thresholds
    colours = [WRONG if i >= drifted else HIGHLIGHT if i >= watch else RIGHT for i in indices]
    axes.plot(places, indices, color=MUTED, linewidth=1, zorder=1)
    axes.scatter(places, indices, c=colours, s=28, zorder=2)
    for threshold, colour, meaning in ((watch, HIGHLIGHT, "watch"), (drifted, WRONG, "drifted")):
        label = f"{meaning} from {threshold:g}"
        axes.axhline(threshold, color=colour, linestyle="--", linewidth=1, label=label)
    axes.legend(frameon=False, loc="upper left", fontsize="small", ncols=2, borderpad=0.1)
    axes.set_ylim(0, 1.5 * max(*indices, drifted))  # with room for the legend above
    axes.set_title("Population stability index")
    axes.tick_params(labelbottom=False)


def _confidences(axes: Axes, confidences: Sequence[float], then: float) -> None:
    places = np.arange(1, len(confidences) + 1)
    axes.plot(places, confidences, color=RIGHT, marker="o", markersize=5, linewidth=1)
    axes.axhline(then, color=MUTED, linestyle="--", linewidth=1)
    axes.annotate(
        "test set",
        (1, then),
        (-2, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize="small",
    )
    axes.set_ylim(max(0, min(*confidences, then) - 0.1), 1.04)
    axes.set_xlim(0.5, len(confidences) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_title("Mean confidence")
    axes.set_xlabel("batch, newest last")
