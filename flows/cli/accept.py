"""`digitflow accept`: an edit of a stage's code that changes nothing, by a person's word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from digitflow.flows.cli.arguments import DataArguments, Json
from digitflow.flows.cli.plan import OwnParameters, own_call
from digitflow.flows.cli.render import Terminal, plain_console
from digitflow.flows.pipeline import pipeline
from digitflow.storage.digests import short
from digitflow.storage.history.registry import person
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.recomputation.accept import accept as accept_calls


def accept(
    stage: Annotated[str, Parameter(help="Stage whose code was edited.")],
    /,
    arguments: DataArguments | None = None,
    *,
    reason: Annotated[str, Parameter(help="Why the edit changes nothing, for the record.")],
    by: Annotated[str | None, Parameter(help="Who says so. Default: user@machine.")] = None,
    flow: Annotated[
        str | None,
        Parameter(
            help="A flow or function of your own that calls the stage: FILE.py:NAME or "
            "MODULE:NAME. Default: the pipeline."
        ),
    ] = None,
    param: OwnParameters = None,
    json: Json = False,
) -> None:
    """Serve the outputs of the code before the edit under today's key, and print them.

    Raises
    ------
    ParameterError, DatasetError, UnknownNameError
        If anything that was typed is not acceptable.
    NotEquivalentError
        If more than the code differs.
    """
    if not reason.strip():
        message = "--reason: expected why the edit changes nothing, found nothing"
        raise ParameterError(message)
    function: Callable[..., Any] = pipeline
    given: dict[str, Any] = {}
    if flow is not None:
        if arguments is not None:
            message = f"{flow}: only --param goes with a flow of your own"
            raise ParameterError(message)
        function, given = own_call(flow, param or [])
    else:
        if param is not None:
            message = "--param: expected --flow beside it, found none; the pipeline takes --set"
            raise ParameterError(message)
        given = {"spec": (arguments or DataArguments()).spec()}
    store = Store()
    store.connect()
    found = accept_calls(
        stage, function, store=store, by=by or person(), reason=reason.strip(), **given
    )
    console = plain_console()
    if json:
        data = [
            {
                "label": each.record.label,
                "key": each.record.key,
                "edits": each.edits,
                "accepted": None if each.record.accepted is None else asdict(each.record.accepted),
            }
            for each in found
        ]
        console.print_json(data=data)
        return
    terminal = Terminal(console)
    for each in found:
        origin = f"outputs of record {short(each.old.key)}… of run {each.old.run}"
        terminal.line("accepts", "yellow", each.record.label, [origin, *each.edits])
    terminal.say(
        "digitflow audit computes it again before anything else"
        if found
        else f"nothing to accept: every call of {stage} is cached"
    )
