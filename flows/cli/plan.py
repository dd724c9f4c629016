"""`digitflow plan`: what a run would do, and why."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import Parameter
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.text import Text

from digitflow.flows.cli.arguments import Json, RunArguments
from digitflow.flows.cli.render import age, megabytes, plain_console, print_status, print_text
from digitflow.flows.pipeline import pipeline
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.plan import Plan, PlannedStage
from digitflow.tasks.engine.plan import plan as plan_calls
from digitflow.tasks.parameters import ParameterError, parse_assignments

ALL_CACHED, WOULD_RUN = 0, 3


def plan(
    flow: Annotated[
        str | None,
        Parameter(
            metavar="FILE.py:FLOW",
            help="A flow of your own, or any function that calls stages, instead of the pipeline.",
        ),
    ] = None,
    /,
    arguments: RunArguments | None = None,
    *,
    param: Annotated[
        list[str] | None,
        Parameter(
            metavar="NAME=VALUE",
            consume_multiple=True,
            negative="",
            help="Parameters of that flow.",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Print one line a stage.

    Returns
    -------
    int
        0 if every stage is cached, 3 if any would run.

    Raises
    ------
    ParameterError, DatasetError, SelectionError
        If anything that was typed is not acceptable.
    """
    if flow is not None:
        if arguments is not None:
            message = f"{flow} is a flow of your own: the pipeline's options are none of its"
            raise ParameterError(message)
        function = load_flow(flow)
        stages = plan_calls(function, **typed(function, param or []))
        return _print_plan(stages, json=json)
    if param:
        message = "--param sets parameters of FILE.py:FLOW; those of the pipeline are set by --set"
        raise ParameterError(message)
    arguments = arguments or RunArguments()
    spec = arguments.spec()
    stages = plan_calls(pipeline, spec, refreshes=spec.selection.refreshes)
    # A dataset that was named is never replaced by another.
    missing = any(stage.stage == "download" and not stage.cached for stage in stages)
    replaceable = spec.dataset if missing and arguments.dataset is None else None
    return _print_plan(stages, json=json, replaceable=replaceable)


def load_flow(place: str) -> Callable[..., Any]:
    """Return a flow, or a function, of a Python file, which is run as ``python FILE.py`` runs it.

    Raises
    ------
    ParameterError
        If there is no such file, or nothing of that name in it that can be called.
    """
    file, _, name = place.rpartition(":")
    path = Path(file).absolute()
    if not file or path.suffix != ".py" or not path.is_file():
        message = f"expected FILE.py:FLOW with a file that is there, found {place!r}"
        raise ParameterError(message)
    sys.path.insert(0, str(path.resolve().parent))  # where Python looks for what a script imports
    found = getattr(importlib.import_module(path.stem), name, None)
    function = getattr(found, "fn", found)
    if not inspect.isfunction(function):
        message = f"{place}: expected a flow or a function that calls stages, found {found!r}"
        raise ParameterError(message)
    return function


def typed(function: Callable[..., Any], assignments: list[str]) -> dict[str, Any]:
    """Return parameters of a function, as their annotations want them.

    Raises
    ------
    ParameterError
        If a parameter is missing, unknown, or has a value of another type.
    """
    values = {}
    hints = get_type_hints(function)
    for name, text in parse_assignments(assignments).items():
        try:
            values[name] = TypeAdapter(hints.get(name, Any)).validate_strings(text)
        except ValidationError as error:
            message = f"{name}: {error.errors()[0]['msg']}, found {text!r}"
            raise ParameterError(message) from error
    try:
        inspect.signature(function).bind(**values)
    except TypeError as error:
        raise ParameterError(str(error)) from error
    return values


def _print_plan(stages: Plan, *, json: bool, replaceable: Dataset | None = None) -> int:
    console = plain_console()
    if json:
        console.print_json(data=[_document(stage) for stage in stages])
    else:
        for stage in stages:
            _print_stage(console, stage)
        for note in _notes(stages, replaceable):
            print_text(console, note, "dim")
    return ALL_CACHED if all(stage.cached for stage in stages) else WOULD_RUN


def _notes(stages: Plan, dataset: Dataset | None) -> Iterator[str]:
    if any(stage.waits_for for stage in stages):
        yield "A waiting stage is served from the cache if its inputs come out the same."
    if dataset is not None:
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
