"""`digitflow models …`: one function a command, each handing on to `flows.cli.commands.models`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from digitflow.flows.cli.commands.flags import DONE, Json, plain_console

models = App(name="models", help="List the trained models; show, promote, roll back, export one.")

Version = Annotated[int, Parameter(help="Number of the version.")]
VersionOrChampion = Annotated[
    int | None, Parameter(help="Number of the version. Default: the champion.")
]


@models.default
def list_models(*, json: Json = False) -> int:
    """List the trained models, newest first."""
    from digitflow.flows.cli.commands.models import list_models

    list_models(plain_console(), json=json)
    return DONE


@models.command(name="show")
def show_model(version: VersionOrChampion = None, /, *, json: Json = False) -> int:
    """Show everything that is known of a model."""
    from digitflow.flows.cli.commands.models import show_model

    show_model(plain_console(), version, json=json)
    return DONE


@models.command
def promote(
    version: Version,
    /,
    *,
    why: Annotated[str, Parameter(help="Reason, for the history.")] = "promoted by hand",
) -> int:
    """Make a model the champion."""
    from digitflow.flows.cli.commands.models import promote_model

    promote_model(plain_console(), version, why)
    return DONE


@models.command
def rollback() -> int:
    """Make the champion before this one the champion again."""
    from digitflow.flows.cli.commands.models import rollback_model

    rollback_model(plain_console())
    return DONE


@models.command
def export(
    version: VersionOrChampion = None,
    /,
    *,
    to: Annotated[Path, Parameter(help="New file: .npz for NumPy, .onnx for other runtimes.")],
) -> int:
    """Write a model to a file that needs no digitflow."""
    from digitflow.flows.cli.commands.models import export_model

    export_model(plain_console(), version, to)
    return DONE
