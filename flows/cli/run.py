"""`digitflow run`, and `parameters`: what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from cyclopts import Parameter
from rich.text import Text

from digitflow.flows.cli.arguments import Json, Quiet, RunArguments, Verbose
from digitflow.flows.cli.render import Terminal, number, plain_console, print_table, table, word
from digitflow.flows.cli.session import run_flow
from digitflow.flows.plan import PlannedStage, make_plan
from digitflow.flows.server.prefect_setup import server_url
from digitflow.flows.spec import RunOptions
from digitflow.flows.summary import summarise
from digitflow.storage.cache import Cache
from digitflow.storage.code.memo import memo_in
from digitflow.storage.runs import RunRecord
from digitflow.tasks.data.datasets.sources import FALLBACK_DATASET
from digitflow.tasks.parameters import (
    DEFAULT_PRESET,
    PARAMETER_NAMES,
    Parameters,
    allowed,
    as_typed,
    read_preset,
    resolve,
)
from digitflow.tasks.reporting.results import check_results_folder, write_results


def run(
    arguments: RunArguments | None = None, *, quiet: Quiet = False, verbose: Verbose = False
) -> None:
    """Run the pipeline as typed, and show it.

    Raises
    ------
    ParameterError, DatasetError, SelectionError, ResultsFolderError
        If anything that was typed is not acceptable; before any work.
    StoppedError
        If Ctrl-C stopped it.
    """
    started = time.perf_counter()
    arguments = arguments or RunArguments()
    options = arguments.options()
    if options.output is not None:  # where the run's name decides, nothing is there yet
        check_results_folder(options.results_folder("unnamed"))
    terminal = Terminal(plain_console(), quiet=quiet)
    cache = Cache()
    cache.connect()
    if cache.shared is not None:
        terminal.say(f"store {cache.shared.remote}", "dim")
    if arguments.dataset is None:
        options = choose_dataset(cache, options, terminal)
    dataset = options.find_dataset()
    terminal.say(f"{dataset.title} · preset {options.preset}", "bold")
    if server_url() is None:
        plan = make_plan(cache, dataset, options.resolve(), options.selection())
        if all(stage.cached for stage in plan) and _serve(cache, plan):
            _refresh_results(cache, options, plan, terminal, started)
            return
    summary = run_flow(_load, options.flow_parameters(), terminal, verbose=verbose)
    terminal.summarise(summary)
    _suggest(options, terminal)


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


def choose_dataset(cache: Cache, options: RunOptions, terminal: Terminal) -> RunOptions:
    """Take the default dataset if it is in the store or can be had, and the sample if not."""
    from digitflow.tasks.data.download.reachable import NoMirrorReachable, reachable

    dataset = options.find_dataset()
    missing = [file for file in dataset.files if not cache.objects.holds(file.sha256)]
    if not missing:
        return options
    try:
        reachable(missing, options.mirrors(dataset))
    except NoMirrorReachable as error:
        terminal.warn(f"{dataset.title} cannot be downloaded: no mirror can be reached")
        terminal.warn(str(error))
        terminal.warn(
            f"Going on with the built-in dataset {FALLBACK_DATASET!r}: digits that this project "
            "draws itself."
        )
        return replace(options, dataset=FALLBACK_DATASET)
    return options


def _load() -> Callable[..., Any]:
    from digitflow.flows.train import train

    return train


def _serve(cache: Cache, plan: list[PlannedStage]) -> bool:
    """Note that every stage is used now; False if one was swept since it was planned."""
    return all(stage.record is not None and cache.serve(stage.record) for stage in plan)


def _refresh_results(
    cache: Cache,
    options: RunOptions,
    plan: list[PlannedStage],
    terminal: Terminal,
    started: float,
) -> None:
    """Write the results of a run in which every stage is cached, without Prefect."""
    memo_in(cache.root).save()
    stages = tuple(stage.result() for stage in plan)
    for stage in stages:
        terminal.finished(stage.label, True, 0.0)
    earlier = _earlier_run(cache, [stage.key for stage in stages])
    name = earlier.name if earlier is not None else "cached"
    summary = summarise(cache, options, name, stages, started)
    write_results(cache, summary)
    terminal.say("nothing to do: every stage is cached")
    terminal.summarise(summary)
    _suggest(options, terminal)


def _earlier_run(cache: Cache, keys: list[str]) -> RunRecord | None:
    for earlier in cache.runs.newest_first():
        if [stage["key"] for stage in earlier.stages] == keys:
            return earlier
    return None


def _suggest(options: RunOptions, terminal: Terminal) -> None:
    """Say what to try next."""
    if replace(options, mirror=None, output=None) == RunOptions():
        terminal.say("Next: digitflow run --set training_sample=10000, then digitflow runs", "dim")
