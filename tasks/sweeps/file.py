"""A sweep as a file, so that it can be run again: what is tried, and what is the same for all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digitflow.tasks.parameters import ParameterError, as_typed, read_preset, read_toml
from digitflow.tasks.sweeps.grid import Point, plan_points, shown

_CONTENTS = "preset, dataset, and the tables set and grid"


@dataclass(frozen=True)
class SweepFile:
    """A sweep as its file has it.

    Attributes
    ----------
    preset
        To start from.
    dataset
        On what, or None for the default.
    settings
        Parameters that are the same for every point.
    grid
        Values to try, by parameter; text for a range.
    """

    preset: str
    dataset: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, list[Any] | str] = field(default_factory=dict)

    def assignments(self) -> list[str]:
        """Return the settings as ``--set`` takes them."""
        return [f"{name}={as_typed(value)}" for name, value in self.settings.items()]

    def rows(self) -> list[str]:
        """Return the grid as ``--grid`` takes it."""
        return [
            f"{name}={tried if isinstance(tried, str) else ','.join(map(shown, tried))}"
            for name, tried in self.grid.items()
        ]

    def points(self) -> list[Point]:
        """Return every point, checked.

        Raises
        ------
        ParameterError
            If one is not acceptable.
        """
        preset, values = read_preset(self.preset)
        return plan_points(preset, {**values, **self.settings}, self.rows())


def read_sweep(path: Path) -> SweepFile:
    """Return the sweep in a TOML file.

    Raises
    ------
    ParameterError
        If it is not the file of a sweep. Names and values of parameters are judged by
        `plan_points`.
    """
    values = read_toml("sweep", path, _CONTENTS)
    preset, dataset = values.pop("preset", None), values.pop("dataset", None)
    tables = {name: values.pop(name, {}) for name in ("set", "grid")}
    problems = [f"{name}: no such key; expected {_CONTENTS}" for name in values]
    if not isinstance(preset, str):
        problems.append(f"preset: expected the name of one, found {preset!r}")
    if not isinstance(dataset, str | None):
        problems.append(f"dataset: expected the name of one, found {dataset!r}")
    problems += [
        f"{name}: expected a table, [{name}], found {value!r}"
        for name, value in tables.items()
        if not isinstance(value, dict)
    ]
    if isinstance(tables["grid"], dict):
        problems += [
            f"grid: {name}: expected a list of values, or a range as text, found {value!r}"
            for name, value in tables["grid"].items()
            if not isinstance(value, list | str)
        ]
    if problems:
        raise ParameterError("\n".join(f"sweep {path}: {problem}" for problem in problems))
    return SweepFile(preset, dataset, tables["set"], tables["grid"])
