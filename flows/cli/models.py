"""`digitflow models …`: versions of trained models, and which of them is the champion."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter
from rich.console import Console

from digitflow.flows.cli.arguments import Json, Version, VersionOrChampion
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
from digitflow.flows.server.endpoint import server_url
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.history.models import CHAMPION, ModelVersion, State
from digitflow.storage.history.registry import lost_entries
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError

models = App(name="models")

Model = Annotated[
    str,
    Parameter(
        help="Named model, such as letters. Default: the version's own, or the only one with a "
        "champion."
    ),
]
Why = Annotated[str, Parameter(help="Reason, for the history.")]


@models.default
def list_models(*, json: Json = False) -> None:
    """List the trained models, newest first, and each named model's champion."""
    registry = Store().models
    state = registry.state()
    versions = sorted(state.versions.values(), key=lambda model: -model.version)
    console = plain_console()
    if json:
        console.print_json(data=[_document(model, state) for model in versions])
        return
    if state.lost:
        print_text(console, lost_entries(state, registry.ledger), "red")
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
        shown.add_row(
            str(model.version),
            standing_of(model, state),
            local_time(model.created),
            model.run,
            model.origin,
            "–" if model.score is None else f"{model.score:.4f}",
        )
    print_table(console, shown)
    if not state.with_champions():
        console.print("no champion yet: digitflow models promote VERSION", style="dim")
    print_verdicts_of_people(console, state)


@models.command(name="show")
def show_model(version: VersionOrChampion = None, /, *, json: Json = False) -> None:
    """Show everything that is known about a model."""
    cache = Store()
    state = cache.models.state()
    model = _version(cache, version)
    document = _document(model, state)
    moves = [
        {**asdict(move), "model": name}
        for name, standing in state.standings.items()
        for move in standing.moves
        if move.version == model.version
    ]
    console = plain_console()
    if json:
        console.print_json(data={**document, "moves": moves})
        return
    size = model.image_size
    document["image_size"] = None if size is None else " x ".join(map(str, size))
    document["moves"] = [
        f"{local_time(move['at'])}: {move['why']} ({move['model']}{_by(move['by'])})"
        for move in moves
    ]
    print_fields(console, document)


@models.command
def promote(version: Version, /, *, why: Why = "promoted by hand", model: Model = "") -> None:
    """Make a model the champion."""
    cache = Store()
    registry = cache.models
    chosen = registry.find(version)
    before = registry.state().champion(model or registry.state().named(chosen))
    registry.promote(chosen.version, why, model)
    _say_champion(f"version {chosen.version} is the {CHAMPION}", before)
    _tell(cache)


@models.command
def rollback(*, why: Why = "", model: Model = "") -> None:
    """Make the previous champion the champion again, and quarantine the one that is left.

    Nothing promotes it again before: digitflow models release VERSION
    """
    cache = Store()
    registry = cache.models
    before = registry.champion(model)
    move = registry.rollback(why, model)
    _say_champion(f"version {move.version} is the {CHAMPION} again", before)
    if before is not None:
        text = (
            f"version {before.version} is in quarantine until: digitflow models release "
            f"{before.version}"
        )
        print_text(plain_console(), text, "dim")
    _tell(cache)


@models.command
def approve(version: Version, /, *, why: Why, model: Model = "") -> None:
    """Answer the gate, which asks about a version: make it the champion."""
    _answer("promoted", version, why, model)


@models.command
def reject(version: Version, /, *, why: Why, model: Model = "") -> None:
    """Answer the gate, which asks about a version: the champion stays."""
    _answer("rejected", version, why, model)


@models.command
def quarantine(version: Version, /, *, why: Why) -> None:
    """Let nothing promote a version, nor another one of the same weights, until it is released."""
    cache = Store()
    chosen = cache.models.quarantine(cache.models.find(version).version, why)
    print_text(plain_console(), f"version {chosen.version} is in quarantine")
    _tell(cache)


@models.command
def hold(model: Model = "", /, *, why: Why) -> None:
    """Let nothing change the champion of a model until it is released."""
    cache = Store()
    held = cache.models.hold(why, model)
    print_text(plain_console(), f"the champion of {held} is on hold")
    _tell(cache)


@models.command
def release(
    what: Annotated[str, Parameter(help="Version in quarantine, or model on hold.")],
    /,
    *,
    why: Why = "",
) -> None:
    """End the quarantine of a version, or the hold of a model."""
    cache = Store()
    print_text(plain_console(), f"{cache.models.release(what, why)} is released")
    _tell(cache)


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
    model = _version(cache, version)
    export(cache.read(model.weights), model, to)
    print_text(plain_console(), f"version {model.version} is in {to}")


def standing_of(version: ModelVersion, state: State) -> str:
    """Return what a version is: champion, quarantined, rejected, held, or nothing of these."""
    names = [name for name in state.with_champions() if state.champion(name) == version]
    if names:
        is_plain = [state.named(version)] == names
        return CHAMPION if is_plain else f"{CHAMPION} of {', '.join(names)}"
    if state.quarantine(version) is not None:
        return "quarantined"
    for standing in state.standings.values():
        for entry in reversed(standing.verdicts):
            if entry.version == version.id:
                return "" if entry.kind == "promoted" else entry.kind
    return ""


def print_verdicts_of_people(console: Console, state: State) -> None:
    """Print what is on hold and what is in quarantine, with author and reason."""
    for sentence in state.said_of():
        print_text(console, sentence, "yellow")


def _answer(kind: Literal["promoted", "rejected"], version: str, why: str, model: str) -> None:
    if not why.strip():
        message = "--why: expected a reason, found none"
        raise ParameterError(message)
    cache = Store()
    chosen = cache.models.find(version)
    question = cache.models.state().question(chosen, model)
    if question is None:
        message = (
            f"nobody is asked about version {chosen.version}; to make it the champion: digitflow "
            f"models promote {chosen.version}"
        )
        raise UnknownNameError(message)
    answer = cache.models.answer(question, kind, why)
    print_text(plain_console(), str(answer.details["headline"]))
    _tell(cache)
    if server_url() is not None:
        from digitflow.tasks.gate.answer import let_end

        let_end(question, answer)


def _version(cache: Store, text: str | None) -> ModelVersion:
    """Return the version that is named, or the champion."""
    if text is not None:
        return cache.models.find(text)
    champion = cache.models.champion()
    if champion is None:
        message = "there is no champion yet; name a version: digitflow models lists them"
        raise UnknownNameError(message)
    return champion


def _say_champion(text: str, before: ModelVersion | None) -> None:
    instead = f", in place of version {before.version}" if before is not None else ""
    plain_console().print(text + instead)


def _tell(cache: Store) -> None:
    """Tell a server's automations at once, if there is one; if not, the next night does."""
    if server_url() is not None:
        from digitflow.tasks.gate.outbox import tell

        tell(cache)


def _by(who: str) -> str:
    return f", by {who}" if who else ""


def _document(model: ModelVersion, state: State) -> dict[str, Any]:
    document = asdict(model)
    document["model"] = state.named(model)
    document["digest"] = model.id
    document["standing"] = standing_of(model, state)
    champion_of = [name for name in state.with_champions() if state.champion(name) == model]
    document["champion"] = bool(champion_of)
    for hold in filter(None, (state.standing(name).hold for name in champion_of)):
        document["hold"] = hold.said
    if (entry := state.quarantine(model)) is not None:
        document["quarantine"] = entry.said
    document["weights"] = model.weights.to_json()
    document["predictions"] = model.predictions.to_json()
    if model.calibration is not None:
        document["calibration"] = model.calibration.to_json()
    document["class_names"] = ", ".join(model.class_names)
    return document
