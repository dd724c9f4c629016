"""`digitflow models …`: versions of trained models, and which of them is the champion."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from digitflow.flows.cli.arguments import Json, VersionOrChampion
from digitflow.flows.cli.render import (
    local_time,
    number,
    plain_console,
    print_fields,
    print_table,
    print_text,
    table,
    word,
)
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.models import CHAMPION, ModelStore, ModelVersion
from digitflow.storage.store import Store

models = App(name="models")


@models.default
def list_models(*, json: Json = False) -> None:
    """List the trained models, newest first."""
    models = Store().models
    champion = _champion(models)
    versions = sorted(models.oldest_first(), key=lambda model: -model.version)
    console = plain_console()
    if json:
        console.print_json(data=[_document(model, champion) for model in versions])
        return
    if not versions:
        console.print("no models yet; train one with: digitflow run")
        return
    shown = table(
        number("version"),
        word(),
        word("trained"),
        word("by run"),
        "dataset, preset",
        number("accuracy"),
    )
    for model in versions:
        accuracy = model.metrics.get("test_accuracy")
        shown.add_row(
            str(model.version),
            CHAMPION if model.version == champion else "",
            local_time(model.created),
            model.run,
            f"{model.dataset}, {model.preset}",
            "–" if accuracy is None else f"{accuracy:.4f}",
        )
    print_table(console, shown)
    if champion is None:
        console.print("no champion yet: digitflow models promote VERSION", style="dim")


@models.command(name="show")
def show_model(version: VersionOrChampion = None, /, *, json: Json = False) -> None:
    """Show everything that is known about a model."""
    models = Store().models
    model = models.load(_or_champion(models, version))
    document = _document(model, _champion(models))
    moves = [move for move in models.moves() if move.version == model.version]
    console = plain_console()
    if json:
        console.print_json(data={**document, "moves": [asdict(move) for move in moves]})
        return
    size = model.image_size
    document["image_size"] = None if size is None else " x ".join(map(str, size))
    document["moves"] = [f"{local_time(move.at)}: {move.why}" for move in moves]
    print_fields(console, document)


@models.command
def promote(
    version: Annotated[int, Parameter(help="Model version.")],
    /,
    *,
    why: Annotated[str, Parameter(help="Reason, for the history.")] = "promoted by hand",
) -> None:
    """Make a model the champion."""
    models = Store().models
    before = models.champion()
    models.promote(version, why)
    _say_champion(f"version {version} is the {CHAMPION}", before)


@models.command
def rollback() -> None:
    """Make the previous champion the champion again."""
    models = Store().models
    before = models.champion()
    move = models.rollback()
    _say_champion(f"version {move.version} is the {CHAMPION} again", before)


@models.command
def export(
    version: VersionOrChampion = None,
    /,
    *,
    to: Annotated[Path, Parameter(help="New file: .npz for NumPy, .onnx for other runtimes.")],
) -> None:
    """Write a model to a file that can be used without digitflow."""
    from digitflow.tasks.prediction.export import export

    cache = Store()
    model = cache.models.load(_or_champion(cache.models, version))
    export(cache.read(model.weights), model, to)
    print_text(plain_console(), f"version {model.version} is in {to}")


def _champion(models: ModelStore) -> int | None:
    """Return the champion's version; its record need not be readable."""
    moves = models.moves()
    return moves[-1].version if moves else None


def _or_champion(models: ModelStore, version: int | None) -> int:
    chosen = _champion(models) if version is None else version
    if chosen is None:
        message = "there is no champion yet; name a version: digitflow models lists them"
        raise UnknownNameError(message)
    return chosen


def _say_champion(text: str, before: ModelVersion | None) -> None:
    instead = f", in place of version {before.version}" if before is not None else ""
    plain_console().print(text + instead)


def _document(model: ModelVersion, champion: int | None) -> dict[str, Any]:
    document = asdict(model)
    document["champion"] = model.version == champion
    document["weights"] = model.weights.to_json()
    document["predictions"] = model.predictions.to_json()
    document["class_names"] = ", ".join(model.class_names)
    return document
