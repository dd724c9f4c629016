"""`digitflow runs`, `show` and `diff`: what was run, from what, and what has changed since."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from digitflow.flows.cli.arguments import Json
from digitflow.flows.cli.render import (
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
from digitflow.flows.selection import STAGE_NAMES
from digitflow.storage.digests import short
from digitflow.storage.errors import StorageError, UnknownNameError
from digitflow.storage.history.models import LedgerEntry
from digitflow.storage.history.runs import RunRecord, is_run_name
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError, resolve

_A_RUN = "a run (digitflow runs)"


def runs(
    *,
    last: Annotated[
        int, Parameter(name="--last", help="How many of the newest runs are shown; 0 for all.")
    ] = 20,
    json: Json = False,
) -> None:
    """Print one line a run, newest first.

    Raises
    ------
    ParameterError
        If `last` is negative.
    """
    if last < 0:
        message = f"--last {last}: expected how many runs to show, or 0 for all of them"
        raise ParameterError(message)
    cache = Store()
    found = list(islice(cache.runs.newest_first(), last or None))
    console = plain_console()
    if json:
        verdicts = _verdicts(cache)
        data = [
            {
                **asdict(run),
                "changed": _changed_parameters(run),
                "verdict": verdicts[run.name].kind if run.name in verdicts else None,
            }
            for run in found
        ]
        console.print_json(data=data)
        return
    in_all = len(cache.runs.everywhere())
    damaged = in_all - len(found) if in_all < last or not last else 0
    if damaged:
        what = "record of a run is" if damaged == 1 else "records of runs are"
        console.print(f"{damaged} {what} damaged; digitflow verify says more", style="yellow")
    if not found and _verdicts(cache):  # asked for by flows of one's own, which keep no such record
        console.print(
            "no finished runs of the pipeline; what flows of your own came to: digitflow status"
        )
        return
    if not found:
        console.print("no finished runs yet; start one with: digitflow run")
        return
    shown = table(
        word("run"),
        word("when"),
        "dataset, preset, changes",
        number("accuracy"),
        word("verdict"),
        number("s"),
        number("ran/cached"),
    )
    verdicts = _verdicts(cache)
    for run in found:
        ran = sum(not stage["cached"] for stage in run.stages)
        changes = [f"{name}={value}" for name, value in _changed_parameters(run).items()]
        shown.add_row(
            run.name,
            local_time(run.created),
            " ".join([run.dataset, run.preset, *changes]),
            f"{run.metrics['test_accuracy']:.4f}" if "test_accuracy" in run.metrics else "–",
            verdicts[run.name].kind if run.name in verdicts else "",
            f"{run.seconds:.1f}",
            f"{ran}/{len(run.stages) - ran}",
        )
    print_table(console, shown)
    if len(found) == last and in_all > last:
        print_text(console, f"the newest {last} of {in_all:,}; digitflow runs --last 0", "dim")


def show(
    name: Annotated[
        str,
        Parameter(
            help="Name of a run, name of a stage, or digest of an object or a record. Its start "
            "is enough if it is unique."
        ),
    ],
    /,
    *,
    json: Json = False,
) -> None:
    """Print what the store knows about a name.

    Raises
    ------
    UnknownNameError
        If nothing or more than one thing has that name.
    """
    cache = Store()
    expected = (
        f"a run (digitflow runs), a stage ({', '.join(STAGE_NAMES)}) or the start of a digest"
    )
    document = _stage(cache, name) or _digest(cache, name) or _run(cache, name, expected)
    console = plain_console()
    if json:
        console.print_json(data=document)
    else:
        print_fields(console, document)


def diff(
    run: Annotated[str, Parameter(help="Name of the earlier run, or the start of it.")],
    other: Annotated[
        str | None, Parameter(help="Name of the later run. Default: the newest.")
    ] = None,
    /,
    *,
    json: Json = False,
) -> None:
    """Print what differs between two runs.

    Raises
    ------
    UnknownNameError
        If a run is unknown or there is nothing to compare with.
    """
    old, new = _pair(Store(), run, other)
    tested = [_tested_on(each) for each in (old, new)]
    document: dict[str, Any] = {
        "runs": [old.name, new.name],
        "parameters": _changes(
            {"dataset": old.dataset, "preset": old.preset, **old.parameters},
            {"dataset": new.dataset, "preset": new.preset, **new.parameters},
        ),
        "metrics": _metrics(old, new),
        # None where one of them was tested on nothing.
        "same_test_images": None if None in tested else tested[0] == tested[1],
        "stages": _changes(_keys(old), _keys(new)),
        "figures": {each.name: _figures(each) for each in (old, new)},
    }
    console = plain_console()
    if json:
        console.print_json(data=document)
        return
    shown = table(word(), word(old.name), word(new.name), "change")
    for name, (before, after) in document["parameters"].items():
        shown.add_row(name, str(before), str(after), "")
    if not document["parameters"]:
        shown.add_row("parameters", "the same", "the same", "")
    for name, row in document["metrics"].items():
        change = row["change"]
        changed = "" if change is None else f"{change:+.4f}".rstrip("0").rstrip(".")
        shown.add_row(name, as_number(row["before"]), as_number(row["after"]), changed)
    if document["same_test_images"] is False:
        shown.add_row(
            "test images", "", "", "not the same: accuracies do not compare", style="yellow"
        )
    stages = ", ".join(document["stages"]) or "none"
    shown.add_row("stages that differ", "", "", stages, style="dim")
    print_table(console, shown)
    for name, figures in document["figures"].items():
        for path in figures:
            print_text(console, f"{name}: {path}", "dim")


def _changed_parameters(run: RunRecord) -> dict[str, Any]:
    """Return the parameters in which a run differs from its preset as it is now."""
    try:
        preset = resolve(run.preset, {}).model_dump(mode="json")
    except ParameterError:  # a preset that no longer exists
        return dict(run.parameters)
    return {name: value for name, value in run.parameters.items() if preset.get(name, ...) != value}


def _find_run(cache: Store, name: str, expected: str = _A_RUN) -> RunRecord:
    """Return the run of a name, or of a start that only one name has.

    Parameters
    ----------
    cache
        The store.
    name
        The name, or its start.
    expected
        What may stand in its place, for the message.

    Raises
    ------
    UnknownNameError
        If there is no such run, or several.
    RecordDamagedError
        If there is one that cannot be trusted.
    """
    if is_run_name(name):
        with suppress(FileNotFoundError):
            return cache.runs.load(name)
    names = [each for each in cache.runs.everywhere() if each.startswith(name)]
    if len(names) == 1:
        return cache.runs.load(names[0])
    if names:
        shown = ", ".join(names[:8])
        message = f"{name!r} is the start of {len(names)} runs ({shown}); type more of it"
    else:
        message = f"expected {expected}, found {name!r}"
    raise UnknownNameError(message)


def _stage(cache: Store, name: str) -> dict[str, Any] | None:
    """Return the newest record of a stage, or of one of its calls, such as decode-test-images."""
    stages = [stage for stage in STAGE_NAMES if name == stage or name.startswith(stage + "-")]
    for stage in stages:
        for record in cache.records.of_stage(stage):
            if name in (record.stage, record.label):
                return _record(cache, record)
    if name in STAGE_NAMES:
        message = f"stage {name} has no record yet; run it with: digitflow run --until {name}"
        raise UnknownNameError(message)
    return None


def _digest(cache: Store, name: str) -> dict[str, Any] | None:
    if not re.fullmatch(r"[0-9a-f]{4,64}", name):
        return None
    keys = {record.key: record for record in cache.records.starting_with(name)}
    objects = cache.objects.starting_with(name)
    if len(keys) + len(objects) > 1:
        found = ", ".join(short(each) + "…" for each in [*keys, *sorted(objects)][:8])
        message = f"{name!r} is the start of several digests ({found}); type more of it"
        raise UnknownNameError(message)
    if keys:
        return _record(cache, next(iter(keys.values())))
    return _object(cache, objects.pop()) if objects else None


def _run(cache: Store, name: str, expected: str) -> dict[str, Any]:
    run = _find_run(cache, name, expected)
    document = asdict(run)
    document["stages"] = [
        f"{stage['name']:24} {'cached' if stage['cached'] else 'ran':6} {short(stage['key'])}…"
        for stage in run.stages
    ]
    verdict = _verdicts(cache).get(run.name)
    if verdict is not None:
        document["verdict"] = str(verdict.details.get("headline", verdict.reason))
    return {"run": document.pop("name"), **document}


def _verdicts(cache: Store) -> dict[str, LedgerEntry]:
    """Return the gate's verdicts by the runs that asked for them.

    Runs can be listed although the ledger cannot be read; `digitflow models` says why.
    """
    try:
        return {entry.by: entry for entry in cache.models.state().verdicts}
    except StorageError:
        return {}


def _record(cache: Store, record: Record) -> dict[str, Any]:
    return {
        "record": record.key,
        "stage": record.label,
        "made_by": record.run,
        "created": record.created,
        **({} if record.accepted is None else {"accepted": asdict(record.accepted)}),
        "seconds": record.seconds,
        "last_used": cache.records.last_used(record).isoformat(timespec="seconds"),
        "parameters": dict(record.document["parameters"]),
        "inputs": dict(record.document["inputs"]),
        "outputs": {name: each.to_json() for name, each in record.outputs.items()},
        "code": sorted(record.document["code"]),
        "path": str(cache.records.path(record.stage, record.key)),
    }


def _object(cache: Store, sha256: str) -> dict[str, Any]:
    records = list(cache.records.naming(sha256))
    makers = [
        (name, record)
        for record in records
        for name, artifact in record.outputs.items()
        if artifact.sha256 == sha256
    ]
    users = [record for record in records if sha256 in record.document["inputs"].values()]
    path = cache.objects.path(sha256)
    sound = cache.objects.holds(sha256)  # a shared one lies here from now on
    document: dict[str, Any] = {
        "object": sha256,
        "size": path.stat().st_size if path.exists() else None,
        "sound": sound,
        "path": str(path),
    }
    if makers:
        name, record = makers[0]
        last_used = max(cache.records.last_used(maker) for _, maker in makers)
        document |= {
            "output": name,
            **record.outputs[name].to_json(),
            "stage": record.label,
            "made_by": record.run,
            "created": record.created,
            "from": dict(record.document["inputs"]),
            "last_used": last_used.isoformat(timespec="seconds"),
        }
    document["used_by"] = [f"{user.label} {short(user.key)}… ({user.run})" for user in users]
    return document


def _pair(cache: Store, earlier: str, later: str | None) -> tuple[RunRecord, RunRecord]:
    """Return two runs; without a later one the newest, or the one before the newest and it."""
    old = _find_run(cache, earlier)
    if later is not None:
        return old, _find_run(cache, later)
    runs = list(islice(cache.runs.newest_first(), 2))
    if runs[0].name != old.name:
        return old, runs[0]
    if len(runs) == 1:
        message = f"{old.name} is the only run so far, so there is nothing to compare it with"
        raise UnknownNameError(message)
    return runs[1], old


def _changes(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*old, *new])
    pairs = {name: (old.get(name), new.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _metrics(old: RunRecord, new: RunRecord) -> dict[str, dict[str, Any]]:
    rows = {}
    for name in dict.fromkeys([*old.metrics, *new.metrics, "seconds"]):
        before = old.seconds if name == "seconds" else old.metrics.get(name)
        after = new.seconds if name == "seconds" else new.metrics.get(name)
        change = None if before is None or after is None else after - before
        rows[name] = {"before": before, "after": after, "change": change}
    return rows


def _tested_on(run: RunRecord) -> tuple[str, ...] | None:
    """Return the digests of the test images and labels of a run, or None."""
    for stage in run.stages:
        if stage["stage"] == "preprocess":
            names = ("test_inputs", "test_targets")
            return tuple(stage["outputs"][each]["sha256"] for each in names)
    return None


def _keys(run: RunRecord) -> dict[str, Any]:
    return {stage["name"]: stage["key"] for stage in run.stages}


def _figures(run: RunRecord) -> list[str]:
    if not run.results:
        return []
    try:
        return [str(path) for path in sorted((Path(run.results) / "figures").glob("*.png"))]
    except OSError:  # the run's folder was on another machine, or is no longer ours to read
        return []
