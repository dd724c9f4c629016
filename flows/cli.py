"""The command `digitflow`: one function a command, each handing on to `flows.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter, validators
from rich.console import Console

from flows.cli_dataset import dataset
from flows.cli_models import models
from flows.commands.arguments import RunArguments, SweepArguments
from flows.commands.flags import AT_LEAST_ONE, BAD_USAGE, DONE, FAILED, Json, plain_console
from flows.loopback import bypass_proxies
from flows.pipeline import SelectionError
from flows.services.pool import POOL
from flows.services.silence import Patience
from storage.errors import UnknownNameError
from tasks.config import DEFAULT_PRESET, ParameterError
from tasks.data.sources import DatasetError
from tasks.export_error import ExportError
from tasks.interruption import StoppedError
from tasks.results import ResultsFolderError

_BAD_REQUESTS = (
    ExportError,
    ParameterError,
    SelectionError,
    DatasetError,
    ResultsFolderError,
    UnknownNameError,
)

app = App(
    name="digitflow",
    help="Train and retrain digit classifiers with NumPy, on Prefect, with a cache that verifies "
    "what it serves.",
    help_epilogue="Start with: digitflow run",
    version_flags=["--version"],
    result_action="return_value",
    # Or Ctrl-C would end everything with 130 before we can say that nothing is lost.
    suppress_keyboard_interrupt=False,
)

Shared = Annotated[
    bool,
    Parameter(
        negative="",
        help="With a URL in DIGITFLOW_STORE: what lies there, not the copies of this machine.",
    ),
]


@app.command
def run(
    arguments: RunArguments | None = None,
    *,
    quiet: Annotated[bool, Parameter(negative="", help="Show errors only.")] = False,
    verbose: Annotated[bool, Parameter(negative="", help="Show Prefect's log as well.")] = False,
) -> int:
    """Run the pipeline: download, decode, preprocess, train, evaluate, plot.

    A stage whose inputs, parameters and code are unchanged is not computed again.
    """
    from flows.commands.run import run_pipeline
    from flows.terminal import Terminal

    arguments = arguments or RunArguments()
    run_pipeline(
        arguments.options(),
        Terminal(Console(highlight=False), quiet=quiet),
        dataset_named=arguments.dataset is not None,
        verbose=verbose,
    )
    return DONE


@app.command
def sweep(
    file: Path | None = None,
    /,
    arguments: SweepArguments | None = None,
    *,
    quiet: Annotated[bool, Parameter(negative="", help="Show errors only.")] = False,
    verbose: Annotated[bool, Parameter(negative="", help="Show Prefect's log as well.")] = False,
) -> int:
    """Train a network for each point of a grid, rank them, and test the winner.

    Points are chosen by the validation set. One that is trained already is not trained again.

    Parameters
    ----------
    file
        TOML file of a sweep: preset, dataset, and the tables set and grid.
    """
    from flows.commands.sweep import run_sweep

    arguments = arguments or SweepArguments()
    arguments = arguments if file is None else arguments.with_file(file)
    run_sweep(arguments, Console(highlight=False), quiet=quiet, verbose=verbose)
    return DONE


@app.command
def plan(arguments: RunArguments | None = None, *, json: Json = False) -> int:
    """Say what a run would do and why, without running anything.

    Exit code 0 if every stage is cached, 3 if one would run.
    """
    from flows.commands.plan import show_plan

    arguments = arguments or RunArguments()
    return show_plan(
        arguments.options(),
        Console(highlight=False),
        dataset_named=arguments.dataset is not None,
        json=json,
    )


@app.command
def runs(*, json: Json = False) -> int:
    """List the finished runs, newest first."""
    from flows.commands.runs import list_runs

    list_runs(plain_console(), json=json)
    return DONE


@app.command
def diff(run: str, other: str | None = None, /, *, json: Json = False) -> int:
    """Compare two runs: parameters, metrics, figures.

    Parameters
    ----------
    run
        Name of the earlier run, or the start of it.
    other
        Name of the later run. Default: the newest.
    """
    from flows.commands.diff import show_difference

    show_difference(plain_console(), run, other, json=json)
    return DONE


@app.command
def show(name: str, /, *, json: Json = False) -> int:
    """Show a run, a stage's newest record, or an object: who made it, from what, for whom.

    Parameters
    ----------
    name
        Name of a run, name of a stage, or digest of an object or a record. The start of it
        is enough where only one has it.
    """
    from flows.commands.show import show_anything

    show_anything(plain_console(), name, json=json)
    return DONE


@app.command
def gc(
    *,
    keep_days: Annotated[
        float, Parameter(help="Records and runs that were used in so many days are kept.")
    ] = 30.0,
    apply: Annotated[bool, Parameter(negative="", help="Delete, instead of only saying.")] = False,
    shared: Shared = False,
    json: Json = False,
) -> int:
    """Say what the store can do without, and how many bytes that is; delete it with --apply."""
    if shared:
        from flows.commands.shared_store import collect_shared_garbage

        collect_shared_garbage(plain_console(), keep_days, apply=apply, json=json)
        return DONE
    from flows.commands.store import collect_garbage

    collect_garbage(plain_console(), keep_days, apply=apply, json=json)
    return DONE


@app.command
def verify(
    *,
    repair: Annotated[
        bool, Parameter(negative="", help="Remove what is damaged, so that it is built again.")
    ] = False,
    shared: Shared = False,
    json: Json = False,
) -> int:
    """Hash everything in the store again and list damage. Exit code 1 if there is any."""
    if shared:
        from flows.commands.shared_store import verify_shared_store

        return verify_shared_store(plain_console(), repair=repair, json=json)
    from flows.commands.store import verify_store

    return verify_store(plain_console(), repair=repair, json=json)


@app.command
def predict(
    *files: Annotated[
        Path, Parameter(help="Pictures (PNG, JPEG, BMP, GIF, WebP), .npy or IDX files, folders.")
    ],
    model: Annotated[
        int | None, Parameter(help="Number of the version. Default: the champion.")
    ] = None,
    json: Json = False,
    csv: Annotated[
        str | None,
        Parameter(help="Write CSV to a new file, or with - print it.", allow_leading_hyphen=True),
    ] = None,
    record: Annotated[
        bool,
        Parameter(negative="", help="Keep class counts and confidence, for digitflow drift."),
    ] = False,
) -> int:
    """Say what is on pictures: class, probability and the runner-up.

    A photo of a digit is brought to MNIST's form first. Exit code 1 if one cannot be read; the
    others are predicted all the same.
    """
    from flows.commands.predict import predict_pictures

    return predict_pictures(plain_console(), files, model, json=json, csv=csv, record=record)


@app.command
def drift(
    *,
    model: Annotated[
        int | None, Parameter(help="Number of the version. Default: the champion.")
    ] = None,
    last: Annotated[
        int, Parameter(help="So many of the newest batches.", validator=AT_LEAST_ONE)
    ] = 10,
    json: Json = False,
) -> int:
    """Say whether the pictures lately are like those of the test set. Exit code 3 if not.

    Compared are the predictions that `predict --record` and the deployment `predict-batch` kept.
    """
    from flows.commands.drift import show_drift

    return show_drift(plain_console(), model, last, json=json)


@app.command
def up(
    *,
    port: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1, lte=65535),
            help="Of the Prefect server and its UI. Default: 4200.",
        ),
    ] = None,
    workers: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=1, lte=64),
            help="How many to start; each executes one run at a time.",
        ),
    ] = 2,
) -> int:
    """Bring up server, deployments and workers on this machine, until Ctrl-C.

    A server that PREFECT_API_URL names, and that runs, is used and left alone.
    """
    from flows.commands.up import bring_up

    bring_up(Console(highlight=False), port, workers)
    return DONE


@app.command
def down() -> int:
    """Take down what `digitflow up` has started, here or in a terminal that is gone."""
    from flows.commands.down import take_all_down

    take_all_down(Console(highlight=False))
    return DONE


@app.command
def server() -> int:
    """Start a Prefect server: prefect server start, made patient where its database is SQLite.

    Prefect's settings hold, such as PREFECT_SERVER_API_PORT. digitflow up has one of its own.
    """
    from flows.services.server import serve

    serve()
    return DONE


@app.command(name="monitor")
def look_after(
    *,
    pool: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            show_default=" ".join,
            help="Work pool whose runs are looked after; can be given several times.",
        ),
    ] = (POOL,),
    silence: Annotated[
        int,
        Parameter(
            validator=validators.Number(gte=35),
            help="Seconds without a heartbeat (one each 30 s) after which a run counts as dead.",
        ),
    ] = int(Patience.running),
) -> int:
    """Start runs again that died with their worker, on the server that PREFECT_API_URL names.

    Runs until it is stopped; each server needs one. digitflow up has one of its own.
    """
    from flows.commands.monitor import monitor

    monitor(Console(highlight=False), pool, Patience(running=silence))
    return DONE


@app.command
def deploy() -> int:
    """Bring work pool and deployments to the server that PREFECT_API_URL names."""
    from flows.commands.deploy import deploy

    deploy(Console(highlight=False))
    return DONE


app.command(models)
app.command(dataset)


@app.command
def parameters(
    *,
    preset: Annotated[str, Parameter(help="Preset whose values are shown.")] = DEFAULT_PRESET,
    json: Json = False,
) -> int:
    """List the parameters that --set takes: value in a preset, meaning, bounds."""
    from flows.commands.parameters import list_parameters

    list_parameters(Console(highlight=False), preset, json=json)
    return DONE


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 done, 1 failed, 2 bad usage; some commands have others, which their help names.
    """
    errors = Console(stderr=True, highlight=False)
    arguments = sys.argv[1:] if arguments is None else arguments
    bypass_proxies()
    try:
        result = app(arguments, exit_on_error=False)
    except CycloptsError:
        return BAD_USAGE  # already shown, with a hint
    except _BAD_REQUESTS as error:
        _show(errors, error)
        return BAD_USAGE
    except (KeyboardInterrupt, StoppedError):
        errors.print("stopped; the same command goes on from here", style="yellow")
        return FAILED
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does. Nothing is wrong.
        sys.stderr.close()
        return DONE
    except Exception as error:
        if "--verbose" in arguments:
            raise
        _show(errors, error)
        if not _is_ours(error):
            errors.print("Add --verbose for the whole story.", style="dim")
        return FAILED
    return result if isinstance(result, int) else DONE


def _show(errors: Console, error: Exception) -> None:
    text = str(error) or type(error).__name__
    errors.print(f"error: {text}", style="red", markup=False)


def _is_ours(error: Exception) -> bool:
    """Tell whether an error is one that we raise on purpose, with a message for people."""
    return type(error).__module__.split(".")[0] in ("flows", "tasks", "storage")
