"""`digitflow dataset …`: one function a command, each handing on to `flows.cli.commands`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators
from rich.console import Console

from digitflow.flows.cli.commands.flags import AT_LEAST_ONE, DONE, FAILED, Json, plain_console
from digitflow.flows.pipeline import SAMPLE

dataset = App(name="dataset", help="List, show, add and draw datasets.")


@dataset.command(name="list")
def list_datasets(*, json: Json = False) -> int:
    """List the datasets that have a name: those that are built in and those that were added."""
    from digitflow.flows.cli.commands.datasets import list_datasets

    list_datasets(plain_console(), json=json)
    return DONE


@dataset.command(name="show")
def show_dataset(name: str, /, *, json: Json = False) -> int:
    """Show everything that is known of a dataset.

    Parameters
    ----------
    name
        Name of a dataset, a manifest (FILE.toml), or a directory with four IDX files.
    """
    from digitflow.flows.cli.commands.datasets import show_dataset

    show_dataset(plain_console(), name, json=json)
    return DONE


@dataset.command
def add(
    place: str,
    /,
    *,
    name: Annotated[str, Parameter(help="What to call it; --dataset takes it then.")],
    class_names: Annotated[
        str | None,
        Parameter(
            help="Names of the classes in ascending order of the labels, with commas between "
            "them. Default: the labels."
        ),
    ] = None,
    transposed: Annotated[
        bool, Parameter(negative="", help="Rows and columns of the images are exchanged.")
    ] = False,
    prefix: Annotated[
        str, Parameter(help="What the files' names begin with, where several sets are there.")
    ] = "",
    title: Annotated[
        str | None, Parameter(help="Its name in figures and reports. Default: NAME.")
    ] = None,
    replace: Annotated[
        bool, Parameter(negative="", help="Take the place of an added dataset of that name.")
    ] = False,
) -> int:
    """Give a dataset a name: write a manifest with the digests of its files as they are now.

    Parameters
    ----------
    place
        Directory with the four IDX files, or URL prefix below which they are served.
    """
    from digitflow.flows.cli.commands.datasets import add_dataset
    from digitflow.flows.cli.terminal import Terminal

    add_dataset(
        Terminal(Console(highlight=False)),
        place,
        name=name,
        title=title,
        class_names=None if class_names is None else [n.strip() for n in class_names.split(",")],
        transposed=transposed,
        prefix=prefix,
        replace=replace,
    )
    return DONE


@dataset.command
def sample(
    *,
    count: Annotated[int, Parameter(help="Training images.", validator=AT_LEAST_ONE)],
    to: Annotated[Path, Parameter(help="New or empty folder.")],
    test: Annotated[
        int | None,
        Parameter(help="Test images. Default: a sixth of COUNT.", validator=AT_LEAST_ONE),
    ] = None,
    seed: Annotated[
        int,
        Parameter(
            help="Seed of everything random. Default: that of the dataset sample.",
            validator=validators.Number(gte=0),
        ),
    ] = SAMPLE["seed"],
) -> int:
    """Draw a dataset of any size, as the dataset sample is drawn, and write its four IDX files.

    The same numbers give the same bytes.
    """
    from digitflow.flows.cli.commands.sample import write_sample_set
    from digitflow.flows.cli.terminal import Terminal

    test = max(1, count // 6) if test is None else test
    terminal = Terminal(Console(highlight=False))
    return DONE if write_sample_set(terminal, to, count, test, seed) else FAILED
