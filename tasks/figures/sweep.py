"""The points of a sweep as parallel coordinates: an axis a parameter, the last one the score."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digitflow.tasks.agg import Axes, Figure, colormaps
from digitflow.tasks.figures.captions import fit, set_title
from digitflow.tasks.figures.style import (
    FULL_WIDTH,
    INK,
    MUTED,
    RIGHT,
    SMALLEST_SIZE,
    WRONG,
    look,
)

# More distinct numbers than this get a scale; fewer stand at even distances, as a grid lists them.
_MOST_MARKS = 8
_HEIGHT = 4.2
# Lines through one mark are drawn apart, over this share of the distance between two marks.
_SPREAD = 0.35


@dataclass(frozen=True)
class Line:
    """One point of a sweep.

    Attributes
    ----------
    values
        Of the swept parameters, in the order of the axes: numbers, or texts.
    score
        What it reached, or None if it failed.
    complete
        Whether it was trained to the end.
    """

    values: tuple[Any, ...]
    score: float | None
    complete: bool = True


@look()
def sweep_figure(
    names: Sequence[str], lines: Sequence[Line], *, metric: str, dataset: str
) -> Figure:
    """Draw a sweep.

    Parameters
    ----------
    names
        Of the swept parameters.
    lines
        The points, best first.
    metric
        What the score is, such as ``validation_accuracy``; a loss is drawn with its least on top.
    dataset
        Name for the title.

    Raises
    ------
    ValueError
        If there are no lines, or one does not have a value for each name.
    """
    if not lines or any(len(line.values) != len(names) for line in lines):
        message = f"expected at least one line of {len(names)} values, found {len(lines)} lines"
        raise ValueError(message)
    figure = Figure(figsize=(FULL_WIDTH, _HEIGHT))
    failed = sum(line.score is None for line in lines)
    stopped = sum(not line.complete and line.score is not None for line in lines)
    parts = [f"sweep of {len(lines)} points"]
    parts += [f"{stopped} stopped early (thin)"] if stopped else []
    parts += [f"{failed} failed (dotted)"] if failed else []
    set_title(figure, dataset, *parts)
    axes = figure.add_subplot()
    scales = [_scale([line.values[n] for line in lines]) for n in range(len(names))]
    scores = [line.score for line in lines if line.score is not None]
    score_scale = _score_scale(scores, upside_down=metric.endswith("_loss"))
    # The best is drawn last, on top of the others.
    for rank, line in reversed(list(enumerate(lines))):
        _draw(axes, line, rank, len(lines), scales, score_scale)
    for place, (name, scale) in enumerate(zip(names, scales, strict=True)):
        _draw_axis(axes, place, name, scale, len(names))
    _draw_axis(axes, len(names), metric, score_scale, len(names))
    axes.set_xlim(-0.15, len(names) + 0.3)
    axes.set_ylim(-0.06, 1.06)
    axes.set_axis_off()
    return figure


@dataclass(frozen=True)
class _Scale:
    """Where values stand on an axis from 0 to 1, and what is written beside it."""

    place: Callable[[Any], float]
    marks: tuple[tuple[float, str], ...]
    spread: float = 0.0


def _scale(values: Sequence[Any]) -> _Scale:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    distinct = sorted(set(values), key=_natural)
    if numbers and len(distinct) > _MOST_MARKS:
        return _number_scale(distinct[0], distinct[-1])
    step = 1 / max(len(distinct) - 1, 1)
    places = {v: n * step if len(distinct) > 1 else 0.5 for n, v in enumerate(distinct)}
    marks = tuple((place, _text(value)) for value, place in places.items())
    return _Scale(lambda value: places[value], marks, _SPREAD * min(step, 0.3))


def _number_scale(low: float, high: float) -> _Scale:
    if low > 0 and high / low >= 10:
        start, length = math.log(low), math.log(high / low)
        middle = math.sqrt(low * high)
        return _Scale(
            lambda value: (math.log(value) - start) / length,
            ((0.0, _text(low)), (0.5, _text(middle)), (1.0, _text(high))),
        )
    return _Scale(
        lambda value: (value - low) / (high - low),
        ((0.0, _text(low)), (0.5, _text((low + high) / 2)), (1.0, _text(high))),
    )


def _score_scale(scores: Sequence[float], *, upside_down: bool) -> _Scale:
    if not scores:
        return _Scale(lambda _: 0.5, ())
    low, high = min(scores), max(scores)
    if low == high:
        return _Scale(lambda _: 0.5, ((0.5, f"{low:.4f}"),))

    def place(score: float) -> float:
        share = (score - low) / (high - low)
        return 1 - share if upside_down else share

    marks = tuple((place(each), f"{each:.4f}") for each in np.linspace(low, high, 5))
    return _Scale(place, marks)


def _draw(
    axes: Axes, line: Line, rank: int, count: int, scales: Sequence[_Scale], score: _Scale
) -> None:
    apart = 0.5 - rank / max(count - 1, 1)
    heights = [
        scale.place(value) + apart * scale.spread
        for scale, value in zip(scales, line.values, strict=True)
    ]
    places = list(range(len(heights)))
    if line.score is None:
        style: dict[str, Any] = {"color": WRONG, "linestyle": ":", "linewidth": 1.4}
        axes.plot(places[-1:], heights[-1:], marker="x", color=WRONG, markersize=6, clip_on=False)
    else:
        places.append(len(heights))
        heights.append(score.place(line.score))
        shade = colormaps["Greys"](0.25 + 0.45 * heights[-1])
        style = {"color": RIGHT if rank == 0 else shade}
        style["linewidth"] = 3.0 if rank == 0 else 1.4 if line.complete else 0.6
    axes.plot(places, heights, solid_capstyle="round", clip_on=False, **style)


def _draw_axis(axes: Axes, place: int, name: str, scale: _Scale, last: int) -> None:
    axes.plot([place, place], [-0.03, 1.03], color=MUTED, linewidth=0.9, zorder=5)
    width = (FULL_WIDTH - 0.6) / (last + 1)
    alignment = "left" if place == 0 else "right" if place == last else "center"
    axes.text(
        place + (0.12 if place == last else 0),
        1.1,
        fit(name.replace("_", " "), width, 9.5),
        ha=alignment,
        color=INK,
        fontweight="bold" if place == last else "normal",
    )
    for height, text in scale.marks:
        axes.text(
            place + 0.03,
            height,
            fit(text, width * 0.9, 8.5) if len(text) > 1 else text,
            va="center",
            fontsize=max(8.5, SMALLEST_SIZE),
            color=INK,
            zorder=6,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8},
        )


def _natural(value: Any) -> list[tuple[bool, float, str]]:
    """Return a key that sorts ``64``, ``128`` and ``256-128`` in this order."""
    parts = re.findall(r"[\d.e+]+|[^\d]+", str(value)) if isinstance(value, str) else [value]
    key = []
    for part in parts:
        try:
            key.append((False, float(part), ""))
        except ValueError:
            key.append((True, 0.0, str(part)))
    return key


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
