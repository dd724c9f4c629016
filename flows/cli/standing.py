"""`digitflow status` and `why`: where models stand, and what made one of them what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from digitflow.flows.cli.arguments import AT_LEAST_ONE, Json
from digitflow.flows.cli.models import print_verdicts_of_people, standing_of
from digitflow.flows.cli.render import (
    age,
    as_number,
    local_time,
    number,
    plain_console,
    print_fields,
    print_table,
    print_text,
    table,
    word,
)
from digitflow.storage.digests import short
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.history.models import LedgerEntry, ModelVersion, Standing, State
from digitflow.storage.history.registry import lost_entries
from digitflow.storage.records import now
from digitflow.storage.store import Store
from digitflow.tasks.gate.difference import Difference, difference
from digitflow.tasks.gate.trend import BARS, DIGITS, Night, nights, trend

CERTAIN, UNCERTAIN = 0, 1
Html = Annotated[
    Path | None, Parameter(help="File to write it to, too, as one page that fetches nothing.")
]
_MOST_IMAGES = 20  # that are named
_NUMBERS = ("version", "accuracy", "champion", "its accuracy")
# What the table of verdicts does without in a narrow terminal, one after the other.
_SPARED = ("run", "champion", "its accuracy", "accuracy")
_BESIDE_THE_TREND = 33  # columns


def status(
    *,
    last: Annotated[int, Parameter(help="Number of verdicts a model.", validator=AT_LEAST_ONE)] = 7,
    html: Html = None,
    json: Json = False,
) -> int:
    """Print each named model's champion, the gate's last verdicts, and what people have said.

    Returns
    -------
    int
        0, or 1 if it is not certain which version is the champion.
    """
    cache = Store()
    registry = cache.models
    state = registry.state()
    console = plain_console()
    if html is not None:
        notices = [lost_entries(state, registry.ledger)] if state.lost else []
        sections = [_section(cache, state, name, last) for name in sorted(state.standings)]
        _write(html, "Where models stand", [*notices, *state.said_of()], sections)
    if json:
        console.print_json(
            data={
                "models": {
                    name: _model(state, name, standing, last)
                    for name, standing in sorted(state.standings.items())
                },
                "quarantined": {
                    str(state.versions[each].version): _said(entry)
                    for each, entry in state.quarantined.items()
                },
                "lost": state.lost,
            }
        )
        return UNCERTAIN if state.lost else CERTAIN
    if state.lost:
        print_text(console, lost_entries(state, registry.ledger), "red")
    if not state.standings:
        console.print("no model has been judged or promoted yet: digitflow models")
    for name in sorted(state.standings):
        _print_model(console, state, name, last)
    print_verdicts_of_people(console, state)
    return UNCERTAIN if state.lost else CERTAIN


def why(
    name: Annotated[
        str,
        Parameter(help="Model version (12, v12, the start of its digest), or name of a run."),
    ],
    /,
    *,
    html: Html = None,
    json: Json = False,
) -> None:
    """Print what differs between a version and its champion, and what the gate said of it.

    Of the champion itself it is what differs from the champion before.

    Raises
    ------
    UnknownNameError
        If there is no such version or run, or nothing to hold it against.
    """
    cache = Store()
    state = cache.models.state()
    version = _find(cache, state, name)
    model, other = _opponent(state, version)
    found = difference(cache, version, other)
    verdicts = [entry for entry in state.verdicts if entry.version == version.id]
    console = plain_console()
    shown = _shown(state, version, other, model, found, verdicts)
    if html is not None:
        section = _compared(cache, version, other, found)
        section["rows"] = [
            {"": each, "found": "\n".join(said) if isinstance(said, list) else said}
            for each, said in shown.items()
        ]
        title = f"Version {version.version} of {model}"
        _write(html, title, state.said_of(model), [section])
    if json:
        console.print_json(data=_document(version, other, model, found, verdicts))
        return
    print_fields(console, shown)


def _section(cache: Store, state: State, name: str, last: int) -> dict[str, Any]:
    """Return what a page says of a named model: champion, verdicts, and what it is better at."""
    champion, standing = state.champion(name), state.standing(name)
    section: dict[str, Any] = {"lines": _champion_lines(state, name), "figures": []}
    if champion is not None and len(standing.back) > 1:
        before = state.versions[standing.back[-2]]
        section = _compared(cache, champion, before, difference(cache, champion, before))
        section["lines"] = _champion_lines(state, name)
    found = nights(state, name, last)
    metric = _metric(standing)
    rows = [
        {_titled(what, metric): text for what, text in {**_row(each), "why": each.headline}.items()}
        for each in found
    ]
    how = [{"": a, "oldest first": signs, "means": b} for a, signs, b in trend(found)]
    return {**section, "title": name, "rows": rows, "trend": how, "metric": metric}


def _compared(
    cache: Store, version: ModelVersion, other: ModelVersion, found: Difference
) -> dict[str, Any]:
    figures = []
    images = found.images if version.is_of_images else None
    if images is not None and (images.gained or images.lost):
        from digitflow.tasks.gate.pictures import gained_and_lost  # Matplotlib takes a second

        figures = gained_and_lost(cache, version, other, images)
    title = f"Against version {other.version}"
    return {"title": title, "lines": [], "trend": [], "rows": [], "figures": figures}


def _write(file: Path, title: str, notices: list[str], sections: list[dict[str, Any]]) -> None:
    from digitflow.tasks.reporting.render import render

    written = f"digitflow, {local_time(now())}"
    page = render(
        "standing.html",
        title=title,
        written=written,
        notices=notices,
        sections=sections,
        numeric=[_titled(name, each.get("metric", "")) for each in sections for name in _NUMBERS],
    )
    file.write_text(page, encoding="utf-8")


def _champion_lines(state: State, name: str) -> list[str]:
    champion = state.champion(name)
    if champion is None:
        return ["no champion yet"]
    move = state.standing(name).moves[-1]
    measured = ""
    if champion.score is not None:
        what = "" if champion.is_of_images else f"{champion.metric} "
        on = "images" if champion.is_of_images else "rows"
        measured = f", {what}{champion.score:.4f} on its test {on}"
    return [
        f"version {champion.version} ({short(champion.id)}…) is the champion, "
        f"{age(move.at)}{measured}",
        f"{move.why}{f' ({move.by})' if move.by else ''}",
    ]


def _model(state: State, name: str, standing: Standing, last: int) -> dict[str, Any]:
    champion = state.champion(name)
    found = nights(state, name, last)
    return {
        "champion": None if champion is None else champion.version,
        "digest": None if champion is None else champion.id,
        "since": standing.moves[-1].at if standing.moves else None,
        "why": standing.moves[-1].why if standing.moves else None,
        "accuracy": None if champion is None else champion.score,
        "hold": None if standing.hold is None else _said(standing.hold),
        "questions": [_question(state, entry) for entry in standing.questions.values()],
        "verdicts": [asdict(each) for each in found],
        "trend": {
            "verdicts": [each.verdict for each in reversed(found)],
            "challenger": [each.accuracy for each in reversed(found)],
            "champion": [each.champion_accuracy for each in reversed(found)],
        },
    }


def _question(state: State, entry: LedgerEntry) -> dict[str, Any]:
    number = state.versions[entry.version].version
    return {
        "version": number,
        "until": entry.until,
        "run": entry.by,
        "headline": entry.details.get("headline", entry.reason),
        "answer": [f"digitflow models {verb} {number}" for verb in ("approve", "reject")],
    }


def _row(night: Night) -> dict[str, str]:
    numbers = (night.version, night.accuracy, night.champion, night.champion_accuracy)
    return {
        "night": local_time(night.at),
        "verdict": night.verdict,
        **{name: as_number(each) for name, each in zip(_NUMBERS, numbers, strict=True)},
        "run": night.run,
    }


def _said(entry: LedgerEntry) -> dict[str, str]:
    return {"at": entry.at, "by": entry.by, "reason": entry.reason}


def _print_model(console: Console, state: State, name: str, last: int) -> None:
    first, *others = _champion_lines(state, name)
    print_text(console, f"{name}: {first}")
    for line in others:
        print_text(console, f"  {line}", "dim")
    found = nights(state, name, last)
    if not found:
        return
    levels = DIGITS if console.options.ascii_only else BARS
    room = max(1, console.width - _BESIDE_THE_TREND)
    lines = trend(found, levels=levels)
    print_fields(console, {what: f"{signs[-room:]}  {means}" for what, signs, means in lines})
    rows, metric = [_row(each) for each in found], _metric(state.standing(name))
    print_table(console, *(_table(rows, _SPARED[:few], metric) for few in range(len(_SPARED) + 1)))


def _metric(standing: Standing) -> str:
    """Return what the gate judged by last."""
    return str(standing.verdicts[-1].details.get("metric", "")) if standing.verdicts else ""


def _titled(column: str, metric: str) -> str:
    """Return the title of a column: what a model of one's own is judged by is no accuracy."""
    return column.replace("accuracy", metric or "accuracy")


def _table(rows: list[dict[str, str]], without: Sequence[str], metric: str) -> Table:
    names = [name for name in rows[0] if name not in without]
    shown = table(
        *((number if name in _NUMBERS else word)(_titled(name, metric)) for name in names)
    )
    for row in rows:
        shown.add_row(*(row[name] for name in names))
    return shown


def _find(cache: Store, state: State, name: str) -> ModelVersion:
    of_run = [each for each in state.versions.values() if each.run == name]
    if of_run:
        return of_run[-1]
    judged = [
        entry.version
        for entry in state.verdicts
        if entry.by == name and entry.version in state.versions
    ]
    return state.versions[judged[-1]] if judged else cache.models.find(name)


def _opponent(state: State, version: ModelVersion) -> tuple[str, ModelVersion]:
    """Return the model that a version belongs to, and what it is held against."""
    own = state.named(version)
    names = [each for each in state.with_champions() if version.id in state.standing(each).back]
    model = own if own in names or not names else names[0]
    champion = state.champion(model)
    if champion is not None and champion.id != version.id:
        return model, champion
    back = state.standing(model).back if champion is not None else []
    if len(back) < 2:
        message = f"expected a champion to hold version {version.version} against, found none: " + (
            "it is the first" if champion else f"the model {model} has no champion yet"
        )
        raise UnknownNameError(message)
    return model, state.versions[back[-2]]


def _document(
    version: ModelVersion,
    other: ModelVersion,
    model: str,
    found: Difference,
    verdicts: list[LedgerEntry],
) -> dict[str, Any]:
    images = found.images
    return {
        "version": version.version,
        "model": model,
        "against": other.version,
        "parameters": found.parameters,
        "data": found.data,
        "code": found.code,
        "test_images": None if images is None else images.total,
        "gained": None if images is None else images.gained,
        "lost": None if images is None else images.lost,
        "problem": found.problem or None,
        "verdicts": [
            {"verdict": each.kind, "run": each.by, **_said(each), **each.details}
            for each in verdicts
        ],
    }


def _shown(
    state: State,
    version: ModelVersion,
    other: ModelVersion,
    model: str,
    found: Difference,
    verdicts: list[LedgerEntry],
) -> dict[str, Any]:
    is_champion = state.champion(model) == version
    code = found.code
    images = found.images
    what = "images" if version.is_of_images else "rows"
    total = "" if images is None else f"{images.total:,} test {what}"
    return {
        "version": f"{version.version}, {standing_of(version, state) or 'never judged'}",
        "against": f"{other.version}, the champion {'before' if is_champion else ''}".rstrip(),
        "parameters": [f"{n} {a} → {b}" for n, (a, b) in found.parameters.items()] or "the same",
        "data": ", ".join(found.data) or "the same",
        "code": "not known: a record is gone" if code is None else ", ".join(code) or "the same",
        "gained": found.problem if images is None else _positions(images.gained, total),
        **({} if images is None else {"lost": _positions(images.lost, total)}),
        "verdicts": [
            f"{local_time(each.at)}: {each.details.get('headline', each.reason)} ({each.by})"
            for each in verdicts
        ],
    }


def _positions(found: tuple[int, ...], total: str) -> str:
    if not found:
        return f"0 of {total}"
    shown = ", ".join(map(str, found[:_MOST_IMAGES]))
    more = ", …" if len(found) > _MOST_IMAGES else ""
    return f"{len(found)} of {total}: {shown}{more}"
