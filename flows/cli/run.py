"""`digitflow run` and `retrain`, and `parameters`: what they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from digitflow.flows.cli.arguments import (
    Json,
    Quiet,
    RetrainArguments,
    RunArguments,
    Verbose,
)
from digitflow.flows.cli.plan import OwnParameters, own_call, place_of
from digitflow.flows.cli.render import Terminal, number, plain_console, print_table, table, word
from digitflow.flows.cli.session import prefect, run_flow, settle
from digitflow.flows.pipeline import pipeline
from digitflow.flows.server.endpoint import server_url
from digitflow.flows.spec import RunOptions, RunSpec
from digitflow.flows.summary import summarise
from digitflow.storage.code.memo import memo_in
from digitflow.storage.digests import short
from digitflow.storage.history.runs import RunRecord, digest_of_stages
from digitflow.storage.store import Store
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.plan import Plan, plan
from digitflow.tasks.parameters import (
    DEFAULT_PRESET,
    PARAMETER_NAMES,
    ParameterError,
    Parameters,
    allowed,
    as_typed,
    read_preset,
    resolve,
)
from digitflow.tasks.reporting.results import results_are_whole, write_results

# The exit code of a verdict that is red in the UI.
NEEDS_A_PERSON = 3


def run(
    flow: Annotated[
        str | None,
        Parameter(
            help="A Prefect flow of your own: FILE.py:NAME or MODULE:NAME. Default: the pipeline."
        ),
    ] = None,
    /,
    arguments: RunArguments | None = None,
    *,
    param: OwnParameters = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Run the pipeline, or a flow of one's own, as typed, and show it.

    Returns
    -------
    int
        0, or 3 if a flow of one's own ends in a failed state that it returned: a gate's verdict.

    Raises
    ------
    ParameterError, DatasetError, SelectionError, ResultsFolderError
        If anything that was typed is not acceptable; before any work.
    StoppedError
        If Ctrl-C stopped it.
    """
    started = time.perf_counter()
    terminal = Terminal(plain_console(), quiet=quiet)
    if flow is not None:
        if arguments is not None:
            message = f"{flow}: only --param, --quiet and --verbose go with a flow of your own"
            raise ParameterError(message)
        return _run_own(flow, param or [], terminal, verbose=verbose)
    if param is not None:
        message = "--param: expected a flow of your own, found none; the pipeline takes --set"
        raise ParameterError(message)
    arguments = arguments or RunArguments()
    spec = arguments.spec()
    cache, spec = settle(spec, terminal, dataset_named=arguments.dataset is not None)
    terminal.say(f"{spec.dataset.title} · preset {spec.preset}", "bold")
    if server_url() is None:
        planned = plan(pipeline, spec, store=cache, refreshes=spec.selection.refreshes)
        if all(stage.cached for stage in planned) and _serve(cache, planned):
            _show_cached(cache, spec, planned, terminal, started)
            return 0
    summary = run_flow("digitflow.flows.train:train", spec, terminal, verbose=verbose)
    terminal.summarise(summary)
    _suggest(spec.options, terminal)
    return 0


def _run_own(flow: str, param: list[str], terminal: Terminal, *, verbose: bool) -> int:
    place_of(flow)

    def load() -> Callable[[], Any]:
        function, values = own_call(flow, param)
        if not hasattr(function, "fn"):
            message = f"{flow}: expected a Prefect flow, found a function; make it one with @flow"
            raise ParameterError(message)
        return partial(function, **values, return_state=True)

    embedded = server_url() is None
    with (
        prefect(load, terminal, embedded=embedded, verbose=verbose) as function,
        terminal.showing(),
    ):
        state = function()
    return _ended(state, terminal)


def retrain(
    arguments: RetrainArguments | None = None, *, quiet: Quiet = False, verbose: Verbose = False
) -> int:
    """Train as typed, and let the gate decide; return the exit code.

    Raises
    ------
    ParameterError, DatasetError, ResultsFolderError
        If anything that was typed is not acceptable; before any work.
    StoppedError
        If Ctrl-C stopped it.
    """
    arguments = arguments or RetrainArguments()
    spec = arguments.spec()
    terminal = Terminal(plain_console(), quiet=quiet)
    # Whoever retrains means a model that there is, so the sample never takes the data's place.
    cache, spec = settle(spec, terminal, dataset_named=True)
    if arguments.model is not None:
        cache.models.named(arguments.model)
    terminal.say(f"{spec.dataset.title} · preset {spec.preset}", "bold")
    state = run_flow(
        "digitflow.flows.retrain:retrain",
        spec,
        terminal,
        verbose=verbose,
        return_state=True,
        **arguments.gate(),
    )
    code = _ended(state, terminal)
    terminal.say("Next: digitflow status, digitflow models", "dim")
    return code


def _ended(state: Any, terminal: Terminal) -> int:
    """Say what a flow's state says; return the exit code."""
    if state.is_cancelled():
        raise StoppedError(state.message)
    if state.name == "Failed":
        state.result()
    red = state.is_failed()
    (terminal.warn if red else terminal.say)(f"\n{state.message}", "red" if red else "green")
    return NEEDS_A_PERSON if red else 0


def parameters(
    *,
    preset: Annotated[str, Parameter(help="Preset whose values are shown.")] = DEFAULT_PRESET,
    json: Json = False,
) -> None:
    """Print every parameter with its value in a preset, what it means and its bounds.

    Raises
    ------
    ParameterError
        If there is no such preset.
    """
    values = resolve(*read_preset(preset))
    rows = [
        {
            "name": name,
            "value": getattr(values, name),
            "meaning": Parameters.model_fields[name].description,
            "rule": allowed(name),
        }
        for name in PARAMETER_NAMES
    ]
    console = plain_console()
    if json:
        console.print_json(data=rows)
        return
    shown = table(word("parameter"), number(preset), "meaning")
    for row in rows:
        rule = (f" ({row['rule']})", "dim") if row["rule"] else ""
        shown.add_row(row["name"], as_typed(row["value"]), Text.assemble(row["meaning"], rule))
    print_table(console, shown)


def _serve(cache: Store, planned: Plan) -> bool:
    """Note that every stage is used now; False if one was swept since it was planned."""
    return all(stage.record is not None and cache.cache.serve(stage.record) for stage in planned)


def _show_cached(
    cache: Store,
    spec: RunSpec,
    planned: Plan,
    terminal: Terminal,
    started: float,
) -> None:
    """Show a run in which every stage is cached, without Prefect.

    Results belong to the run that made them: they are written only where they are not whole, as
    that run left them. Where no run on record had these stages, this is one of its own.
    """
    memo_in(cache.root).save()
    stages = tuple(stage.result() for stage in planned)
    for stage in stages:
        terminal.finished(stage.label, True, 0.0)
    keys = [stage.key for stage in stages]
    digest = digest_of_stages({"key": key} for key in keys)
    earlier = _earlier_run(cache, keys, digest)
    name = f"cached-{short(digest)}" if earlier is None else earlier.name
    summary = summarise(cache, spec, name, stages, started)
    if earlier is None:
        write_results(cache, summary)
        cache.runs.save(summary.record())
    elif not results_are_whole(made := summary.as_recorded(earlier)):
        write_results(cache, made)
    terminal.say("nothing to do: every stage is cached")
    terminal.summarise(summary)
    _suggest(spec.options, terminal)


def _earlier_run(cache: Store, keys: list[str], digest: str) -> RunRecord | None:
    for earlier in cache.runs.naming(digest):
        if [stage["key"] for stage in earlier.stages] == keys:
            return earlier
    return None


def _suggest(options: RunOptions, terminal: Terminal) -> None:
    """Say what to try next."""
    if replace(options, mirror=None, output=None) == RunOptions():
        terminal.say("Next: digitflow run --set training_sample=10000, then digitflow runs", "dim")
