"""The points of a sweep as parallel coordinates."""

from typing import Any

import numpy as np
import pytest

from digitflow.tasks.figures.png import to_png
from digitflow.tasks.figures.sweep import Line, sweep_figure

GRID = [
    Line((0.1, "128"), 0.98),
    Line((0.2, "64"), 0.95, complete=False),
    Line((0.1, "256-128"), None),
]


def texts(names: list[str], lines: list[Line], metric: str = "validation_accuracy") -> list[str]:
    figure = sweep_figure(names, lines, metric=metric, dataset="MNIST")
    return [text.get_text() for text in figure.axes[0].texts]


def test_every_value_and_every_name_is_there():
    found = texts(["learning_rate", "hidden_sizes"], GRID)
    assert {"learning rate", "hidden sizes", "validation accuracy"} <= set(found)
    assert {"0.1", "0.2", "64", "128", "256-128", "0.9800", "0.9500"} <= set(found)
    # Layers stand in the order of their sizes, whatever the ranking is.
    assert [text for text in found if text in ("64", "128", "256-128")] == ["64", "128", "256-128"]


def test_the_title_says_what_was_not_trained_to_its_end():
    figure = sweep_figure(["a", "b"], GRID, metric="validation_accuracy", dataset="MNIST")
    title = figure.get_suptitle()
    assert title == "MNIST · sweep of 3 points · 1 stopped early (thin) · 1 failed (dotted)"


@pytest.mark.parametrize("metric", ["validation_accuracy", "validation_loss"])
def test_the_best_is_on_top(metric: str):
    scores = [0.9, 0.5, 0.1] if metric.endswith("accuracy") else [0.1, 0.5, 0.9]
    lines = [Line((n,), score) for n, score in enumerate(scores)]
    figure = sweep_figure(["seed"], lines, metric=metric, dataset="MNIST")
    drawn = [line for line in figure.axes[0].lines if line.get_linewidth() == 3.0]
    assert len(drawn) == 1
    assert np.asarray(drawn[0].get_ydata())[-1] == 1


@pytest.mark.parametrize(
    "lines",
    [
        [Line((1,), 0.5)],
        [Line((1,), 0.5), Line((1,), 0.5)],
        [Line((1,), None)],
        [Line((float(n) / 7,), n / 20) for n in range(1, 20)],
        [Line((10.0**-n,), n / 20) for n in range(20)],
        [Line(("none",), 0.1), Line((64,), 0.3), Line(("64-8",), None)],
        [Line(("a" * 200,), 0.1), Line(("ネット",), 0.3)],
    ],
)
def test_any_points_can_be_drawn(lines: list[Line]):
    first, second = (
        to_png(sweep_figure(["x"], lines, metric="validation_loss", dataset="$x_1$"), dpi=40)
        for _ in range(2)
    )
    assert first.startswith(b"\x89PNG")
    assert first == second


@pytest.mark.parametrize("lines", [[], [Line((1, 2), 0.5)]])
def test_lines_that_do_not_fit_the_axes(lines: list[Any]):
    with pytest.raises(ValueError, match="expected at least one line of 1 values"):
        to_png(sweep_figure(["x"], lines, metric="validation_loss", dataset="MNIST"))
