"""The points of a sweep: which parameters are tried, from rows like ``learning_rate=0.05,0.1``.

Light: whether every point is acceptable is known before any work, without NumPy unless points
are drawn at random.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.parameters import ParameterError, Parameters, resolve

MOST_POINTS = 1_000
ALIASES = {"hidden": "hidden_sizes"}
_MOST_DRAWS = 100  # a point, until it is one that was not drawn before
_RANGE = ".."
_NO_LAYERS = "none"
# With these, points would be judged on different images, or on none.
_NOT_SWEPT = {"validation_size"}


@dataclass(frozen=True)
class Axis:
    """One row of a grid: a parameter, and its values as text or a range to draw from.

    Attributes
    ----------
    name
        Of the parameter.
    values
        Texts that `resolve` reads; empty for a range.
    low, high
        Ends of a range.
    """

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def is_range(self) -> bool:
        """Whether values are drawn from between two ends."""
        return not self.values


@dataclass(frozen=True)
class Point:
    """One training of a sweep.

    Attributes
    ----------
    label
        What tells it from the others, such as ``learning_rate=0.1 hidden_sizes=512-256``.
    values
        The swept parameters as JSON values.
    parameters
        All of them.
    """

    label: str
    values: Mapping[str, Any]
    parameters: Parameters


def plan_points(
    preset: str,
    overrides: Mapping[str, Any],
    rows: Sequence[str],
    *,
    random: int | None = None,
    seed: int = 0,
) -> list[Point]:
    """Return every point of a sweep, each of them checked.

    Parameters
    ----------
    preset, overrides
        As for `resolve`: what is the same for every point.
    rows
        ``name=value,value,…``; in a list such as `hidden_sizes`, layers are joined by ``-``, and
        ``none`` is no layer at all. With `random`, also ``name=low..high``.
    random
        Number of points to draw instead of taking the whole grid: without replacement from listed
        values; from a range evenly in the logarithm, or evenly if it starts at 0.
    seed
        Of the draw.

    Raises
    ------
    ParameterError
        Naming every row and every point that is not acceptable.
    """
    axes = [_axis(row) for row in rows]
    _check(axes, overrides, random)
    lists = all(not axis.is_range for axis in axes)
    total = math.prod(len(axis.values) for axis in axes) if lists else None
    wanted = random if random is not None else total
    if wanted is not None and wanted > MOST_POINTS:
        message = (
            f"grid: expected at most {MOST_POINTS:,} points, found {wanted:,}; list fewer values, "
            "or draw some of the points with --random"
        )
        raise ParameterError(message)
    if random is not None and total is not None and random > total:
        message = f"random: the grid has {total} points, found {random}; omit --random"
        raise ParameterError(message)
    if random is None:
        combinations: Iterator[Sequence[str]] = itertools.product(*(axis.values for axis in axes))
    else:
        combinations = _draw(axes, random, seed, total)
    return _resolve(preset, overrides, [axis.name for axis in axes], combinations)


def shown(value: Any) -> str:
    """Return a value as a grid has it, such as ``512-256`` for two layers."""
    if isinstance(value, list | tuple):
        return "-".join(map(str, value)) or _NO_LAYERS
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _axis(row: str) -> Axis:
    name, equals, text = (part.strip() for part in row.partition("="))
    name = ALIASES.get(name, name)
    values = [value.strip() for value in text.split(",")]
    if not equals or not name or not all(values):
        message = f"grid: expected name=value,value such as learning_rate=0.05,0.1, found {row!r}"
        raise ParameterError(message)
    if len(values) == 1 and _RANGE in text:
        return _range_axis(name, *text.split(_RANGE, 1))
    if _takes_list(name):
        values = [_layers(value) for value in values]
    return Axis(name, tuple(values))


def _range_axis(name: str, first: str, last: str) -> Axis:
    try:
        low, high = float(first), float(last)
    except ValueError:
        low = high = math.nan
    if not 0 <= low < high < math.inf:
        message = f"grid: {name}: expected low..high with 0 ≤ low < high, found {first}..{last}"
        raise ParameterError(message)
    known = Parameters.model_fields.get(name)
    if known is not None and not (known.annotation in (int, float) or _takes_list(name)):
        message = f"grid: {name}: expected a list of values, found a range; it is not numeric"
        raise ParameterError(message)
    return Axis(name, (), low, high)


def _takes_list(name: str) -> bool:
    known = TrainingSettings.model_fields.get(name)
    return known is not None and isinstance(known.default, tuple)


def _layers(value: str) -> str:
    """Return ``512-256`` or ``512x256`` as the text that a list is read from."""
    return "" if value == _NO_LAYERS else re.sub(r"(?<=\d)[x-](?=\d)", ",", value)


def _check(axes: Sequence[Axis], overrides: Mapping[str, Any], random: int | None) -> None:
    if not axes:
        message = "grid: expected at least one row, such as --grid learning_rate=0.05,0.1"
        raise ParameterError(message)
    names = [axis.name for axis in axes]
    problems = [f"grid: {name} is given twice; put its values in one row" for name in _twice(names)]
    for name in dict.fromkeys(names):
        if name in overrides:
            problems.append(f"grid: {name} is set to one value as well; choose one of the two")
        if name in Parameters.model_fields and (
            name not in TrainingSettings.model_fields or name in _NOT_SWEPT
        ):
            problems.append(
                f"grid: {name}: points that differ in it cannot be compared on the same validation "
                "images"
            )
    for axis in axes:
        if axis.is_range and random is None:
            problems.append(
                f"grid: {axis.name}: a range needs --random, the number of points to draw"
            )
    if random is not None and random < 1:
        problems.append(f"random: expected at least 1 point, found {random}")
    if problems:
        raise ParameterError("\n".join(problems))


def _twice(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]


def _draw(
    axes: Sequence[Axis], count: int, seed: int, total: int | None
) -> Iterator[Sequence[str]]:
    import numpy as np

    rng = np.random.default_rng(seed)
    if total is not None:
        for place in rng.choice(total, count, replace=False):
            shape = tuple(len(axis.values) for axis in axes)
            chosen = np.unravel_index(int(place), shape)
            yield [axis.values[int(n)] for axis, n in zip(axes, chosen, strict=True)]
        return
    drawn: dict[tuple[str, ...], None] = {}
    for _ in range(_MOST_DRAWS * count):
        if len(drawn) < count:
            drawn[tuple(_draw_value(axis, rng) for axis in axes)] = None
    if len(drawn) < count:
        message = (
            f"random: expected {count} different points, found {len(drawn)} in such narrow ranges; "
            "widen them, or draw fewer"
        )
        raise ParameterError(message)
    yield from drawn


def _draw_value(axis: Axis, rng: Any) -> str:
    if not axis.is_range:
        return axis.values[int(rng.integers(len(axis.values)))]
    if axis.low > 0:
        value = math.exp(rng.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        value = rng.uniform(axis.low, axis.high)
    annotation = Parameters.model_fields[axis.name].annotation
    # Four digits are plenty, and can be typed again.
    return f"{value:.4g}" if annotation is float else str(round(value))


def _resolve(
    preset: str,
    overrides: Mapping[str, Any],
    names: Sequence[str],
    combinations: Iterator[Sequence[str]],
) -> list[Point]:
    points: dict[str, Point] = {}
    problems: dict[str, None] = {}  # in order, each once
    for texts in combinations:
        given = dict(zip(names, texts, strict=True))
        try:
            parameters = resolve(preset, {**overrides, **given})
        except ParameterError as error:
            problems |= dict.fromkeys(str(error).splitlines())
            continue
        values = parameters.model_dump(mode="json", include=set(names))
        values = {name: values[name] for name in names}
        label = " ".join(f"{name}={shown(value)}" for name, value in values.items())
        problem = _problem(parameters)
        if problem is not None:
            problems[problem] = None
        if label in points:
            problems[f"grid: {label} appears twice"] = None
        points[label] = Point(label, values, parameters)
    if problems:
        raise ParameterError("\n".join(problems))
    return list(points.values())


def _problem(parameters: Parameters) -> str | None:
    if parameters.network == "tutorial":
        return (
            "the tutorial's network has no validation set to rank points on, and ranking them on "
            "the test set would bias it; use another preset, such as --preset quick"
        )
    if parameters.validation_size == 0:
        return "a sweep ranks points on the validation set: set validation_size above 0"
    if parameters.members != 1:
        return (
            "members: a sweep compares single networks; leave it at 1, and train an ensemble of "
            "the winner"
        )
    return None
