"""`digitflow sweep`: check every point, run the flow, show the ranking."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console

from digitflow.flows.cli.commands.arguments import SweepArguments
from digitflow.flows.cli.commands.run import choose_dataset
from digitflow.flows.cli.commands.session import run_flow
from digitflow.flows.cli.sweep_terminal import SweepTerminal
from digitflow.storage.cache import Cache
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.reporting.results import check_results_folder
from digitflow.tasks.sweeps.grid import plan_points
from digitflow.tasks.sweeps.halving import check_halving


def run_sweep(arguments: SweepArguments, console: Console, *, quiet: bool, verbose: bool) -> None:
    """Run a sweep as typed, and show it.

    Parameters
    ----------
    arguments
        What was typed.
    console
        Where to show it.
    quiet
        Show errors only.
    verbose
        Show Prefect's own log as well.

    Raises
    ------
    ParameterError, DatasetError, ResultsFolderError
        If anything that was typed is not acceptable; before any work.
    StoppedError
        If Ctrl-C stopped it.
    """
    options = arguments.options()
    grid = list(arguments.grid or ())
    points = plan_points(
        options.preset,
        options.overrides,
        grid,
        random=arguments.random,
        seed=arguments.seed,
    )
    if arguments.early_stop is not None:
        check_halving(points)
    if options.output is not None:
        check_results_folder(options.results_folder("unnamed"))
    cache = Cache()
    cache.connect()
    terminal = SweepTerminal(console, quiet=quiet)
    if arguments.dataset is None:
        options = choose_dataset(cache, options, terminal)
    dataset = options.find_dataset()
    terminal.say(f"{dataset.title} · preset {options.preset} · {len(points)} points", "bold")
    parameters = {
        **options.flow_parameters(),
        "grid": grid,
        "random": arguments.random,
        "random_seed": arguments.seed,
        "metric": arguments.metric,
        "early_stop": arguments.early_stop,
    }
    try:
        summary = run_flow(_load, parameters, terminal, verbose=verbose)
    except StoppedError as stop:
        terminal.say(f"{str(stop).partition(';')[0]}; finished points are cached", "yellow")
        raise
    terminal.summarise_sweep(summary)


def _load() -> Callable[..., Any]:
    from digitflow.flows.sweep import sweep

    return sweep
