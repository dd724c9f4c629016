"""`digitflow diff`: two runs side by side."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from digitflow.flows.cli.commands.runs import find_run
from digitflow.storage.cache import Cache
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.runs import RunRecord


def show_difference(console: Console, earlier: str, later: str | None, *, json: bool) -> None:
    """Print what differs between two runs.

    Parameters
    ----------
    console
        Where to print.
    earlier, later
        Names of runs or unique starts of them. With `later` None it is the newest run; if that
        is `earlier` itself, the one before it is compared with it.
    json
        Print one JSON document.

    Raises
    ------
    UnknownNameError
        If a run is unknown or there is nothing to compare with.
    """
    old, new = _runs(Cache(), earlier, later)
    document: dict[str, Any] = {
        "runs": [old.name, new.name],
        "parameters": _changes(
            {"dataset": old.dataset, "preset": old.preset, **old.parameters},
            {"dataset": new.dataset, "preset": new.preset, **new.parameters},
        ),
        "metrics": _metrics(old, new),
        "stages": _changes(_keys(old), _keys(new)),
        "figures": {run.name: _figures(run) for run in (old, new)},
    }
    if json:
        console.print_json(json_format.dumps(document))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("", old.name, new.name, "change"):
        table.add_column(column, overflow="fold")
    for name, (before, after) in document["parameters"].items():
        table.add_row(name, str(before), str(after), "")
    if not document["parameters"]:
        table.add_row("parameters", "the same", "the same", "")
    for name, row in document["metrics"].items():
        change = row["change"]
        shown = "" if change is None else f"{change:+.4f}".rstrip("0").rstrip(".")
        table.add_row(name, _number(row["before"]), _number(row["after"]), shown)
    table.add_row(
        "stages that differ", "", "", ", ".join(document["stages"]) or "none", style="dim"
    )
    console.print(table)
    for run, figures in document["figures"].items():
        for path in figures:
            console.print(f"{run}: {path}", style="dim", soft_wrap=True)


def _runs(cache: Cache, earlier: str, later: str | None) -> tuple[RunRecord, RunRecord]:
    old = find_run(cache, earlier)
    if later is not None:
        return old, find_run(cache, later)
    runs = list(cache.runs.newest_first())
    if runs[0].name != old.name:
        return old, runs[0]
    if len(runs) == 1:
        message = f"{old.name} is the only run so far, so there is nothing to compare it with"
        raise UnknownNameError(message)
    return runs[1], old


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*old, *new])
    pairs = {name: (old.get(name), new.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _metrics(old: RunRecord, new: RunRecord) -> dict[str, dict[str, Any]]:
    rows = {}
    for name in dict.fromkeys([*old.metrics, *new.metrics, "seconds"]):
        before = old.seconds if name == "seconds" else old.metrics.get(name)
        after = new.seconds if name == "seconds" else new.metrics.get(name)
        change = None if before is None or after is None else after - before
        rows[name] = {"before": before, "after": after, "change": change}
    return rows


def _keys(run: RunRecord) -> dict[str, Any]:
    return {stage["name"]: stage["key"] for stage in run.stages}


def _figures(run: RunRecord) -> list[str]:
    if not run.results:
        return []
    try:
        return [str(path) for path in sorted((Path(run.results) / "figures").glob("*.png"))]
    except OSError:  # the run's folder was on another machine, or is no longer ours to read
        return []


def _number(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
