"""`digitflow plan`: what a run would do, and why."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape

from digitflow.flows.cli.commands.units import age, megabytes
from digitflow.flows.plan import PlannedStage, make_plan
from digitflow.flows.spec import RunOptions
from digitflow.storage.cache import Cache
from digitflow.tasks.data.datasets.sources import Dataset

ALL_CACHED, WOULD_RUN = 0, 3


def show_plan(options: RunOptions, console: Console, *, dataset_named: bool, json: bool) -> int:
    """Print one line a stage.

    Parameters
    ----------
    options
        Of the run.
    console
        Where to print.
    dataset_named
        Whether the user named the dataset; if not, a run may have to take another.
    json
        Print one JSON document.

    Returns
    -------
    int
        0 if every stage is cached, 3 if one would run.
    """
    dataset = options.find_dataset()
    stages = make_plan(Cache(), dataset, options.resolve(), options.selection())
    if json:
        console.print_json(json_format.dumps([_document(stage) for stage in stages]))
    else:
        for stage in stages:
            console.print(_line(stage), highlight=False, soft_wrap=True)
        for note in _notes(stages, dataset, dataset_named=dataset_named):
            console.print(note, style="dim", soft_wrap=True)
    return ALL_CACHED if all(stage.cached for stage in stages) else WOULD_RUN


def _notes(stages: list[PlannedStage], dataset: Dataset, *, dataset_named: bool) -> Iterator[str]:
    if any(stage.waits_for for stage in stages):
        yield "What waits is spared if the bytes that it waits for come out the same."
    missing = any(stage.stage == "download" and not stage.cached for stage in stages)
    if missing and not dataset_named:
        yield (
            f"{dataset.title} is not all in the store. Where no mirror can be reached, a run goes\n"
            "on with the built-in sample: digitflow plan --dataset sample"
        )


def _line(stage: PlannedStage) -> str:
    label = f"{stage.label:24}"
    if stage.record is not None:
        size = sum(artifact.size for artifact in stage.record.outputs.values())
        made = f"{age(stage.record.created)} ago by {stage.record.run}, {megabytes(size)}"
        return f"  [dim]cached[/]    {label}  [dim]{escape(made)}[/]"
    if stage.waits_for:
        first, *others = stage.waits_for
        more = f" and {len(others)} more" if others else ""
        return f"  [yellow]waits[/]     {label}  waits for {escape(first)}{more}"
    indent = "\n" + " " * 38
    reasons = indent.join(escape(reason) for reason in stage.reasons)
    return f"  [green]will run[/]  {label}  {reasons}"


def _document(stage: PlannedStage) -> dict[str, Any]:
    document: dict[str, Any] = {
        "stage": stage.stage,
        "label": stage.label,
        "status": "cached" if stage.cached else "waits" if stage.waits_for else "will run",
        "reasons": list(stage.reasons),
        "waits_for": list(stage.waits_for),
    }
    if stage.record is not None:
        document |= {
            "key": stage.record.key,
            "run": stage.record.run,
            "created": stage.record.created,
            "outputs": {name: each.to_json() for name, each in stage.record.outputs.items()},
        }
    return document
