"""Hash everything in the store again, and remove what is damaged."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from digitflow.storage.batches import load_batch
from digitflow.storage.cache import Cache
from digitflow.storage.digests import short
from digitflow.storage.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    RecordDamagedError,
    StorageError,
)
from digitflow.storage.objects import ObjectStore
from digitflow.storage.os_errors import explaining
from digitflow.storage.quarantine import remove_unless, settle
from digitflow.storage.records import RecordStore
from digitflow.storage.runs import RunStore
from digitflow.storage.sources import is_sound


@dataclass(frozen=True)
class Damage:
    """One thing that is not what it should be.

    Attributes
    ----------
    kind
        ``object``, ``record``, ``run``, ``source``, ``batch`` or ``model``.
    path
        Where it lies.
    problem
        What is wrong, in a sentence.
    """

    kind: str
    path: Path
    problem: str


@dataclass
class Report:
    """What was verified, and the damage found.

    Attributes
    ----------
    objects, records
        How many were verified.
    size
        Bytes of all objects.
    damaged
        What is wrong.
    """

    objects: int = 0
    records: int = 0
    size: int = 0
    damaged: list[Damage] = field(default_factory=list)


def find_damage(cache: Cache) -> Report:
    """Verify every object, every stage's record and every run's record.

    Of a shared store that is what this machine keeps of it, which need not be all of it.
    """
    report = Report()
    is_whole = cache.shared is None
    cache = cache.local
    for sha256 in cache.objects:
        path = cache.objects.path(sha256)
        try:
            report.size += cache.objects.verify(sha256).stat().st_size
        except ObjectDamagedError as error:
            report.damaged.append(Damage("object", path, str(error)))
        except ObjectMissingError:
            continue  # swept meanwhile
        report.objects += 1
    for path in sorted(cache.records.root.glob("*/*.json")):
        report.records += 1
        try:
            record = cache.records.load(path.parent.name, path.stem)
        except (RecordDamagedError, ValueError) as error:
            report.damaged.append(Damage("record", path, str(error)))
            continue
        for name, artifact in record.outputs.items() if record is not None else ():
            if is_whole and _is_missing(cache, artifact.sha256):
                problem = f"{path} names {name}, object {short(artifact.sha256)}…, which is missing"
                report.damaged.append(Damage("record", path, problem))
    for path in sorted(cache.runs.root.glob("*.json")):
        report.records += 1
        try:
            cache.runs.load(path.stem)
        except FileNotFoundError:
            continue
        except (RecordDamagedError, ValueError) as error:
            report.damaged.append(Damage("run", path, str(error)))
    for path in cache.sources.damaged():
        report.damaged.append(Damage("source", path, f"{path} is damaged"))
    for path in cache.batches.damaged():
        report.damaged.append(Damage("batch", path, f"{path} is damaged"))
    # Nothing makes a version's record again, so one that is damaged is listed and left.
    for path in cache.models.damaged():
        report.damaged.append(Damage("model", path, f"{path} is damaged"))
    return report


def remove_damage(cache: Cache, report: Report) -> None:
    """Remove what is damaged: the stages that made it will miss it and make it again.

    What a run has healed since it was found damaged is left alone.

    Raises
    ------
    StoreUnusableError
        If the store cannot be written.
    """
    with explaining("the store", cache.root):
        for damage in report.damaged:
            if damage.kind == "model":
                continue
            remove_unless(cache.root, damage.path, partial(_is_sound, cache.local, damage.kind))


def _is_missing(cache: Cache, sha256: str) -> bool:
    path = cache.objects.path(sha256)
    if not path.exists():
        settle(cache.root)  # a sweep may be looking at it
    return not path.exists()


def _is_sound(cache: Cache, kind: str, aside: Path) -> bool:
    """Look once more at what lies aside, where it has the same path as in the store."""
    try:
        if kind == "object":
            return ObjectStore(aside.parents[1]).holds(aside.parent.name + aside.name)
        if kind == "batch":
            load_batch(aside)
            return True
        if kind == "run":
            RunStore(aside.parent).load(aside.stem)
            return True
        if kind == "source":
            return is_sound(aside)
        record = RecordStore(aside.parents[1]).load(aside.parent.name, aside.stem)
    except (StorageError, ValueError):
        return False
    return record is not None and all(
        cache.objects.path(artifact.sha256).exists() for artifact in record.outputs.values()
    )
