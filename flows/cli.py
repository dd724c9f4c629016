"""The command `digitflow`: arguments → options → what is asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from flows.options import DEFAULT_DATASET, RunOptions
from flows.pipeline import StageName
from flows.run import run as run_pipeline
from flows.terminal import Terminal
from tasks.config import DEFAULT_PRESET, ParameterError, Parameters, parse_assignments
from tasks.data.sources import DATASETS, DatasetError
from tasks.results import ResultsFolderError

DONE, FAILED, BAD_USAGE = 0, 1, 2

app = App(
    name="digitflow",
    help="Train and retrain digit classifiers with NumPy, on Prefect, with a cache that verifies "
    "what it serves.",
    help_epilogue="Start with: digitflow run",
    version_flags=["--version"],
    result_action="return_value",
)


@app.command
def run(
    *,
    preset: Annotated[str, Parameter(help="Named set of parameters to start from.")] = (
        DEFAULT_PRESET
    ),
    dataset: Annotated[
        str | None,
        Parameter(
            help="mnist, sample, or a directory with the four IDX files. "
            "Default: mnist, or sample where no mirror can be reached."
        ),
    ] = None,
    mirror: Annotated[
        str | None,
        Parameter(
            help="URL prefix or directory that is asked first for the files. "
            "Default: DIGITFLOW_MIRROR.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            metavar="KEY=VALUE",
            consume_multiple=True,
            negative="",
            help="Parameters that differ from the preset's: key=value, several if you like. "
            "`digitflow parameters` lists them.",
        ),
    ] = None,
    refresh: Annotated[
        list[StageName] | None,
        Parameter(
            consume_multiple=True,
            negative="",
            help="Stages that run again although they are cached.",
        ),
    ] = None,
    from_stage: Annotated[
        StageName | None,
        Parameter(name="--from", help="Stage that runs again, with everything after it."),
    ] = None,
    until: Annotated[StageName | None, Parameter(help="Last stage to run.")] = None,
    output: Annotated[
        str | None,
        Parameter(help="Folder for the results. Default: results/RUN, by the run's name."),
    ] = None,
    quiet: Annotated[bool, Parameter(negative="", help="Show errors only.")] = False,
    verbose: Annotated[bool, Parameter(negative="", help="Show Prefect's log as well.")] = False,
) -> int:
    """Run the pipeline: download, decode, preprocess, train, evaluate, plot.

    A stage whose inputs, parameters and code are unchanged is not computed again.
    """
    options = RunOptions(
        dataset=_absolute_if_directory(dataset or DEFAULT_DATASET),
        preset=preset,
        mirror=_absolute_if_directory(mirror) if mirror else None,
        refresh=tuple(refresh or ()),
        from_stage=from_stage,
        until=until,
        output=output,
        overrides=parse_assignments(assignments or []),
    )
    # Whatever is wrong with what was asked for is said before any work starts.
    options.find_dataset()
    overrides = options.resolve().model_dump(include=set(options.overrides))
    options = RunOptions(**{**vars(options), "overrides": overrides})
    run_pipeline(
        options,
        Terminal(Console(highlight=False), quiet=quiet),
        dataset_named=dataset is not None,
        verbose=verbose,
    )
    return DONE


@app.command
def parameters() -> int:
    """List the parameters that --set takes: default, bounds, meaning."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "default", "type", "meaning"):
        table.add_column(column)
    for name, each in Parameters.model_fields.items():
        kind = getattr(each.annotation, "__name__", str(each.annotation))
        table.add_row(name, str(each.default), kind, each.description)
    Console().print(table)
    return DONE


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0 done, 1 the pipeline failed, 2 bad usage.
    """
    errors = Console(stderr=True, highlight=False)
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        result = app(arguments, exit_on_error=False)
    except CycloptsError:
        return BAD_USAGE  # already shown, with a hint
    except (ParameterError, DatasetError, ResultsFolderError) as error:
        _show(errors, error)
        return BAD_USAGE
    except KeyboardInterrupt:
        errors.print("stopped", style="red")
        return FAILED
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


def _absolute_if_directory(place: str) -> str:
    """Make a directory absolute: the flow may run somewhere else."""
    is_directory = place not in DATASETS and Path(place).expanduser().is_dir()
    return str(Path(place).expanduser().absolute()) if is_directory else place
