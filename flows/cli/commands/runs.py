"""`digitflow runs`: the finished runs, newest first."""

from __future__ import annotations

import json as json_format
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from digitflow.flows.cli.commands.units import local_time
from digitflow.storage.cache import Cache
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.runs import RunRecord, is_run_name
from digitflow.tasks.parameters import ParameterError, resolve


def list_runs(console: Console, *, json: bool) -> None:
    """Print one line a run."""
    cache = Cache()
    runs = list(cache.runs.newest_first())
    if json:
        documents = [{**asdict(run), "changed": changed_parameters(run)} for run in runs]
        console.print_json(json_format.dumps(documents))
        return
    damaged = sum(1 for _ in cache.runs.damaged())
    if damaged:
        what = "record of a run is" if damaged == 1 else "records of runs are"
        console.print(f"{damaged} {what} damaged; digitflow verify says more", style="yellow")
    if not runs:
        console.print("no finished runs yet; start one with: digitflow run")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", overflow="fold")
    table.add_column("when", no_wrap=True)
    table.add_column("dataset, preset and what differs")
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("ran/cached", justify="right", no_wrap=True)
    for run in runs:
        ran = sum(not stage["cached"] for stage in run.stages)
        changes = [f"{name}={value}" for name, value in changed_parameters(run).items()]
        table.add_row(
            run.name,
            local_time(run.created),
            " ".join([run.dataset, run.preset, *changes]),
            f"{run.metrics['test_accuracy']:.4f}" if "test_accuracy" in run.metrics else "–",
            f"{run.seconds:.1f}",
            f"{ran}/{len(run.stages) - ran}",
        )
    console.print(table)


def changed_parameters(run: RunRecord) -> dict[str, Any]:
    """Return the parameters in which a run differs from its preset as it is now."""
    try:
        preset = resolve(run.preset, {}).model_dump(mode="json")
    except ParameterError:  # a preset that no longer exists
        return dict(run.parameters)
    return {name: value for name, value in run.parameters.items() if preset.get(name, ...) != value}


def find_run(cache: Cache, name: str) -> RunRecord:
    """Return the run of a name, or of a start that only one name has.

    Raises
    ------
    UnknownNameError
        If there is no such run, or several.
    RecordDamagedError
        If there is one that cannot be trusted.
    """
    runs = [run for run in cache.runs.newest_first() if run.name.startswith(name)]
    exact = [run for run in runs if run.name == name]
    if len(exact or runs) == 1:
        return (exact or runs)[0]
    if runs:
        names = ", ".join(run.name for run in runs[:8])
        message = f"{name!r} is the start of {len(runs)} runs ({names}); type more of it"
    else:
        if is_run_name(name):
            with suppress(FileNotFoundError):
                return cache.runs.load(name)  # which says why it is not among those listed
        message = f"expected the name of a run, found {name!r}; list them with: digitflow runs"
    raise UnknownNameError(message)
