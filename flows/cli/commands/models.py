"""`digitflow models …`: versions of trained models, and which of them is the champion."""

from __future__ import annotations

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from digitflow.flows.cli.commands.units import local_time
from digitflow.storage.cache import Cache
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.models import CHAMPION, ModelStore, ModelVersion


def list_models(console: Console, *, json: bool) -> None:
    """Print one line a version, newest first, and the champion's history."""
    models = Cache().models
    moves = models.moves()
    champion = moves[-1].version if moves else None
    versions = sorted(models.oldest_first(), key=lambda model: -model.version)
    if json:
        documents = [_document(model, champion) for model in versions]
        console.print_json(json_format.dumps(documents))
        return
    if not versions:
        console.print("no models yet; train one with: digitflow run")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("version", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("trained", no_wrap=True)
    table.add_column("by run", overflow="fold")
    table.add_column("dataset, preset")
    table.add_column("accuracy", justify="right", no_wrap=True)
    for model in versions:
        accuracy = model.metrics.get("test_accuracy")
        table.add_row(
            str(model.version),
            "champion" if model.version == champion else "",
            local_time(model.created),
            escape(model.run),
            escape(f"{model.dataset}, {model.preset}"),
            "–" if accuracy is None else f"{accuracy:.4f}",
        )
    console.print(table)
    if champion is None:
        console.print("no champion yet: digitflow models promote VERSION", style="dim")


def show_model(console: Console, version: int | None, *, json: bool) -> None:
    """Print everything that is known of a version, by default the champion.

    Raises
    ------
    UnknownNameError
        If there is no such version.
    """
    models = Cache().models
    moves = models.moves()
    champion = moves[-1].version if moves else None
    model = models.load(_or_champion(models, version))
    document = _document(model, champion)
    document["moves"] = [asdict(move) for move in moves if move.version == model.version]
    if json:
        console.print_json(json_format.dumps(document))
        return
    for name, value in document.items():
        lines = _lines(name, value)
        for number, line in enumerate(lines or ["–"]):
            title = name.replace("_", " ") if number == 0 else ""
            console.print(f"{title:12}  {line}", soft_wrap=True, markup=False)


def promote_model(console: Console, version: int, why: str) -> None:
    """Make a version the champion.

    Raises
    ------
    UnknownNameError
        If there is no such version.
    """
    models = Cache().models
    before = models.champion()
    models.promote(version, why)
    instead = f", in place of version {before.version}" if before is not None else ""
    console.print(f"version {version} is the {CHAMPION}{instead}")


def rollback_model(console: Console) -> None:
    """Make the champion before this one the champion again.

    Raises
    ------
    UnknownNameError
        If there is none to go back to.
    """
    models = Cache().models
    before = models.champion()
    move = models.rollback()
    instead = f", in place of version {before.version}" if before is not None else ""
    console.print(f"version {move.version} is the {CHAMPION} again{instead}")


def export_model(console: Console, version: int | None, target: Path) -> None:
    """Write a version to a file for NumPy or for ONNX runtimes, by the file's ending.

    Raises
    ------
    UnknownNameError
        If there is no such version.
    ExportError
        If the file's ending is another one, it exists already, or the package onnx is missing.
    """
    from digitflow.tasks.prediction.export import export

    cache = Cache()
    model = cache.models.load(_or_champion(cache.models, version))
    export(cache.read(model.weights), model, target)
    console.print(f"version {model.version} is in {target}", soft_wrap=True, markup=False)


def _or_champion(models: ModelStore, version: int | None) -> int:
    if version is not None:
        return version
    champion = models.champion()
    if champion is None:
        message = "there is no champion yet; name a version: digitflow models lists them"
        raise UnknownNameError(message)
    return champion.version


def _lines(name: str, value: Any) -> list[str]:
    """Return a version's value as people read it; nothing of what is not on record."""
    if value is None:
        return []
    if name == "image_size":
        return [" x ".join(str(side) for side in value)]
    if name == "moves":
        return [f"{move['at']}: {move['why']}" for move in value]
    if isinstance(value, dict):
        return [f"{key} = {each}" for key, each in value.items()]
    return [str(value)]


def _document(model: ModelVersion, champion: int | None) -> dict[str, Any]:
    document = asdict(model)
    document["champion"] = model.version == champion
    document["weights"] = model.weights.to_json()
    document["predictions"] = model.predictions.to_json()
    document["class_names"] = ", ".join(model.class_names)
    return document
