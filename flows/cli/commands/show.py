"""`digitflow show`: one run, one stage's newest record, or one object."""

from __future__ import annotations

import json as json_format
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console

from digitflow.flows.cli.commands.runs import find_run
from digitflow.flows.cli.commands.units import age, local_time, megabytes
from digitflow.flows.pipeline import STAGE_NAMES
from digitflow.storage.cache import Cache
from digitflow.storage.digests import is_sha256, short
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.fields import is_time
from digitflow.storage.records import Record


def show_anything(console: Console, name: str, *, json: bool) -> None:
    """Print what the store knows of a name.

    Parameters
    ----------
    console
        Where to print.
    name
        A run, a stage or one of its calls (``train``, ``decode-test-images``), or the digest
        of an object or a record; the start of a run's name or of a digest if only one has it.
    json
        Print one JSON document.

    Raises
    ------
    UnknownNameError
        If nothing or more than one thing has that name.
    """
    cache = Cache()
    document = _stage(cache, name) or _digest(cache, name) or _run(cache, name)
    if json:
        console.print_json(json_format.dumps(document))
        return
    for field, value in document.items():
        for number, line in enumerate(_lines(value)):
            title = field.replace("_", " ") if number == 0 else ""
            console.print(f"{title:12}  {line}", soft_wrap=True, markup=False)


def _stage(cache: Cache, name: str) -> dict[str, Any] | None:
    stages = [stage for stage in STAGE_NAMES if name == stage or name.startswith(stage + "-")]
    for stage in stages:
        for record in cache.records.of_stage(stage):
            if name in (record.stage, record.label):
                return _record(cache, record)
    if name in STAGE_NAMES:
        message = f"stage {name} has no record yet; run it with: digitflow run --until {name}"
        raise UnknownNameError(message)
    return None


def _digest(cache: Cache, name: str) -> dict[str, Any] | None:
    if not re.fullmatch(r"[0-9a-f]{4,64}", name):
        return None
    records = list(_all_records(cache))
    keys = {record.key: record for record in records if record.key.startswith(name)}
    objects = cache.objects.starting_with(name)
    if len(keys) + len(objects) > 1:
        found = ", ".join(short(each) + "…" for each in [*keys, *sorted(objects)][:8])
        message = f"{name!r} is the start of several digests ({found}); type more of it"
        raise UnknownNameError(message)
    if keys:
        return _record(cache, next(iter(keys.values())))
    return _object(cache, objects.pop(), records) if objects else None


def _run(cache: Cache, name: str) -> dict[str, Any]:
    run = find_run(cache, name)
    document = asdict(run)
    document["stages"] = [
        f"{stage['name']:24} {'cached' if stage['cached'] else 'ran':6} {short(stage['key'])}…"
        for stage in run.stages
    ]
    return {"run": document.pop("name"), **document}


def _record(cache: Cache, record: Record) -> dict[str, Any]:
    return {
        "record": record.key,
        "stage": record.label,
        "made_by": record.run,
        "created": record.created,
        "seconds": record.seconds,
        "last_used": cache.records.last_used(record).isoformat(timespec="seconds"),
        "parameters": dict(record.document["parameters"]),
        "inputs": dict(record.document["inputs"]),
        "outputs": {name: each.to_json() for name, each in record.outputs.items()},
        "code": sorted(record.document["code"]),
        "path": str(cache.records.path(record.stage, record.key)),
    }


def _object(cache: Cache, sha256: str, records: list[Record]) -> dict[str, Any]:
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
        document |= {
            "output": name,
            **record.outputs[name].to_json(),
            "stage": record.label,
            "made_by": record.run,
            "created": record.created,
            "from": dict(record.document["inputs"]),
            "last_used": max(cache.records.last_used(maker) for _, maker in makers).isoformat(
                timespec="seconds"
            ),
        }
    document["used_by"] = [f"{user.label} {short(user.key)}… ({user.run})" for user in users]
    return document


def _all_records(cache: Cache) -> Iterator[Record]:
    for stage in cache.records.stages():
        yield from cache.records.of_stage(stage)


def _lines(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name} = {_short(each)}" for name, each in value.items()] or ["–"]
    if isinstance(value, list):
        return [str(each) for each in value] or ["–"]
    if is_time(value):
        return [f"{local_time(value)} ({age(value)} ago)"]
    return [str(value)]


def _short(value: Any) -> str:
    if is_sha256(value):
        return short(value) + "…"
    if isinstance(value, dict) and "sha256" in value:
        facts = value["details"].values()
        details = " ".join(str(each) for each in facts if not isinstance(each, dict))
        return f"{short(value['sha256'])}… {value['format']} {megabytes(value['size'])} {details}"
    return str(value)
