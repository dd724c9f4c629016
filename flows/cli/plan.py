"""`digitflow plan`: what a run would do, and why."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from digitflow.flows.cli.arguments import Json, RunArguments
from digitflow.flows.cli.render import age, megabytes, plain_console, print_status, print_text
from digitflow.flows.pipeline import pipeline
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.plan import PlannedStage
from digitflow.tasks.engine.plan import plan as plan_calls
from digitflow.tasks.parameters import ParameterError, parse_assignments

ALL_CACHED, WOULD_RUN = 0, 3

OwnParameters = Annotated[
    list[str] | None,
    Parameter(
        metavar="KEY=VALUE",
        consume_multiple=(1, None),
        help="Parameters of your own flow, one or more; a value is JSON, or else text.",
    ),
]


def plan(
    flow: Annotated[
        str | None,
        Parameter(
            help="A flow or function of your own that calls stages: FILE.py:NAME or MODULE:NAME. "
            "Default: the pipeline."
        ),
    ] = None,
    /,
    arguments: RunArguments | None = None,
    *,
    param: OwnParameters = None,
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
    replaceable: Dataset | None = None
    if flow is not None:
        if arguments is not None:
            message = f"{flow}: only --param and --json go with a flow of your own"
            raise ParameterError(message)
        function, values = own_call(flow, param or [])
        stages = plan_calls(function, **values)
    else:
        if param is not None:
            message = "--param: expected a flow of your own, found none; the pipeline takes --set"
            raise ParameterError(message)
        arguments = arguments or RunArguments()
        spec = arguments.spec()
        stages = plan_calls(pipeline, spec, refreshes=spec.selection.refreshes)
        # A dataset that was named is never replaced by another.
        replaceable = spec.dataset if arguments.dataset is None else None
    console = plain_console()
    if json:
        console.print_json(data=[_document(stage) for stage in stages])
    else:
        for stage in stages:
            _print_stage(console, stage)
        for note in _notes(stages, replaceable):
            print_text(console, note, "dim")
    return ALL_CACHED if all(stage.cached for stage in stages) else WOULD_RUN


def place_of(flow: str) -> tuple[str, str]:
    """Return the file or module that a flow of one's own is in, and its name there.

    Raises
    ------
    ParameterError
        If it says no such thing, or there is no such file.
    """
    place, _, name = flow.rpartition(":")
    path = Path(place).expanduser()
    if not place or (path.suffix == ".py" and not path.is_file()):
        message = f"{flow}: expected FILE.py:NAME or MODULE:NAME, found no such file or module"
        raise ParameterError(message)
    return place, name


def own_call(flow: str, param: list[str]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Import somebody's own flow; return it and what it is to be called with.

    Raises
    ------
    ParameterError
        If there is no such flow, or it does not take the parameters.
    """
    place, name = place_of(flow)
    path = Path(place).expanduser()
    is_file = path.suffix == ".py"
    # As with `python FILE.py`, what lies beside it can be imported.
    sys.path.insert(0, str(path.absolute().parent if is_file else Path.cwd()))
    module = import_module(path.stem if is_file else place)
    function = getattr(module, name, None)
    if not callable(function):
        message = f"{flow}: expected a flow or a function, found none of that name in {place}"
        raise ParameterError(message)
    values = {key: _value(text) for key, text in parse_assignments(param).items()}
    try:
        signature(getattr(function, "fn", function)).bind(**values)
    except TypeError as error:
        message = f"{flow}: {error}; set its parameters with --param KEY=VALUE"
        raise ParameterError(message) from error
    return function, values


def _value(text: str) -> Any:
    try:
        return json_format.loads(text)
    except ValueError:
        return text


def _notes(stages: list[PlannedStage], replaceable: Dataset | None) -> Iterator[str]:
    if any(stage.waits_for for stage in stages):
        yield "A waiting stage is served from the cache if its inputs come out the same."
    missing = any(stage.stage == "download" and not stage.cached for stage in stages)
    if missing and replaceable is not None:
        yield (
            f"{replaceable.title} is not all in the store. If no mirror can be reached, a run uses "
            "the built-in sample: digitflow plan --dataset sample"
        )


def _print_stage(console: Console, stage: PlannedStage) -> None:
    if stage.record is not None:
        size = sum(artifact.size for artifact in stage.record.outputs.values())
        made = f"{age(stage.record.created)} ago by {stage.record.run}, {megabytes(size)}"
        status, style, notes, note_style = "cached", "dim", [made], "dim"
        if (accepted := stage.record.accepted) is not None:
            status, style = "accepted", "yellow"
            notes = [f"{age(accepted.at)} ago by {accepted.by}: {accepted.reason}"]
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
        if stage.record.accepted is not None:
            document["accepted"] = asdict(stage.record.accepted)
    return document
