"""`digitflow plan`: what a run would do, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from digitflow.flows.cli.arguments import Json, RunArguments
from digitflow.flows.cli.render import age, megabytes, plain_console, print_status, print_text
from digitflow.flows.pipeline import pipeline
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.plan import PlannedStage
from digitflow.tasks.engine.plan import plan as plan_calls

ALL_CACHED, WOULD_RUN = 0, 3


def plan(arguments: RunArguments | None = None, *, json: Json = False) -> int:
    """Print one line a stage.

    Returns
    -------
    int
        0 if every stage is cached, 3 if any would run.
    """
    arguments = arguments or RunArguments()
    spec = arguments.spec()
    stages = plan_calls(pipeline, spec, refreshes=spec.selection.refreshes)
    console = plain_console()
    if json:
        console.print_json(data=[_document(stage) for stage in stages])
    else:
        for stage in stages:
            _print_stage(console, stage)
        # A dataset that was named is never replaced by another.
        for note in _notes(stages, spec.dataset, replaceable=arguments.dataset is None):
            print_text(console, note, "dim")
    return ALL_CACHED if all(stage.cached for stage in stages) else WOULD_RUN


def _notes(stages: list[PlannedStage], dataset: Dataset, *, replaceable: bool) -> Iterator[str]:
    if any(stage.waits_for for stage in stages):
        yield "A waiting stage is served from the cache if its inputs come out the same."
    missing = any(stage.stage == "download" and not stage.cached for stage in stages)
    if missing and replaceable:
        yield (
            f"{dataset.title} is not all in the store. Where no mirror can be reached, a run goes\n"
            "on with the built-in sample: digitflow plan --dataset sample"
        )


def _print_stage(console: Console, stage: PlannedStage) -> None:
    if stage.record is not None:
        size = sum(artifact.size for artifact in stage.record.outputs.values())
        made = f"{age(stage.record.created)} ago by {stage.record.run}, {megabytes(size)}"
        status, style, notes, note_style = "cached", "dim", [made], "dim"
    elif stage.waits_for:
        first, *others = stage.waits_for
        more = f" and {len(others)} more" if others else ""
        status, style, notes, note_style = "waits", "yellow", [f"waits for {first}{more}"], ""
    else:
        status, style, notes, note_style = "will run", "green", list(stage.reasons), ""
    head = Text.assemble("  ", (f"{status:8}", style), "  ")
    print_status(console, head, stage.label, notes, note_style)


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
