"""Read everything in a store again, and repair or remove what is damaged."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from digitflow.storage.digests import short
from digitflow.storage.documents import Documents
from digitflow.storage.errors import RecordDamagedError, StorageError
from digitflow.storage.models import LedgerEntry
from digitflow.storage.objects import object_entries, object_name
from digitflow.storage.os_errors import explaining
from digitflow.storage.places import Here, Place, There
from digitflow.storage.records import Record
from digitflow.storage.store import Store


@dataclass(frozen=True)
class Damage:
    """One thing that is not what it should be.

    Attributes
    ----------
    kind
        ``object``, ``record``, ``run``, ``source``, ``batch``, ``ledger entry`` or ``version``.
    name
        Where it lies, below the store's root or URL.
    problem
        What is wrong, in a sentence.
    lacks
        Digests of what a sound record names and the store does not have.
    """

    kind: str
    name: str
    problem: str
    lacks: tuple[str, ...] = ()


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


def find_damage(store: Store, *, shared: bool = False) -> Report:
    """Verify every object, every stage's record, every run's record, and the rest.

    Parameters
    ----------
    store
        The store.
    shared
        Whether to download and hash what lies behind the store's URL. Otherwise it is what this
        machine keeps of it, which need not be all of it.

    Raises
    ------
    SharedStoreError
        If there is no shared store, or it cannot be used.
    """
    place = _place(store, shared)
    report = Report()
    # Before the objects: what a record names is there before the record is.
    records = _verify_documents(report, "record", place.records)
    _verify_documents(report, "run", place.runs)
    sizes = {}
    for sha256, entry in object_entries(place.backend).items():
        sizes[sha256] = entry.size
        report.objects += 1
        report.size += entry.size
        problem = _object_problem(place, sha256, entry.name)
        if problem is not None:
            report.damaged.append(Damage("object", entry.name, problem))
    for file, record in records.items() if place.is_whole else ():
        lacks = _lacks(place, record, sizes)
        if lacks and place.holds(file):
            names = ", ".join(f"object {short(sha256)}…" for sha256 in lacks)
            problem = f"{place.backend}/{file} names {names}, which is missing"
            report.damaged.append(Damage("record", file, problem, lacks))
    for noun, documents in place.others:
        sound = _verify_documents(report, noun, documents)
        if noun == "ledger entry":
            report.damaged += _odd_entries(store, sound)
    if place.is_whole:
        report.damaged += _incomplete_versions(store, place, sizes)
    return report


def repair(store: Store, report: Report, *, shared: bool = False) -> None:
    """Put right what this machine has sound, and remove what else is damaged.

    What is removed is missed by the stages that made it, and made again. What has been healed
    since it was found damaged is left alone. An entry of the ledger is put back from a copy, and is
    never removed: nothing makes it again.

    Raises
    ------
    StoreUnusableError
        If the store cannot be written.
    """
    place = _place(store, shared)
    with explaining("the store", store.root):
        for damage in report.damaged:
            if damage.kind == "ledger entry":
                store.models.ledger.repair()
                continue
            if damage.kind == "version":
                for sha256 in damage.lacks:
                    place.heal(sha256)
                continue
            wanted = damage.lacks
            if damage.kind == "object":
                wanted = (_sha256(damage.name),)
            if not wanted or not all([place.heal(sha256) for sha256 in wanted]):
                place.remove_unless(damage.name, partial(_is_sound, place, damage))


def _place(store: Store, shared: bool) -> Place:
    return There(store) if shared else Here(store)


def _verify_documents(report: Report, noun: str, documents: Documents[Any]) -> dict[str, Any]:
    """Read documents, note what is damaged, and return the others by their files."""
    sound = {}
    for name in documents.entries():
        file = documents.kind.file(name)
        try:
            sound[file] = documents.load(name)
        except FileNotFoundError:  # gone meanwhile
            continue
        except RecordDamagedError as error:
            report.damaged.append(Damage(noun, file, str(error)))
        report.records += noun in ("record", "run")
    return sound


def _odd_entries(store: Store, sound: Mapping[str, LedgerEntry]) -> Iterator[Damage]:
    """Yield the entries that are sound in themselves and not those of the chain."""
    chain = store.models.ledger.read()
    for file, entry in sound.items():
        if entry.order > len(chain) or entry.digest != chain[entry.order - 1].digest:
            problem = f"ledger entry {entry.order} is damaged: {file} is not the one of the chain"
            yield Damage("ledger entry", file, problem)


def _incomplete_versions(store: Store, place: Place, there: Container[str]) -> Iterator[Damage]:
    """Yield the versions of models whose weights or predictions are not there."""
    for version in store.models.oldest_first():
        named = {"weights": version.weights, "predictions": version.predictions}
        lacks = {
            name: each.sha256
            for name, each in named.items()
            if each.sha256 not in there and not place.holds(object_name(each.sha256))
        }
        if lacks:
            problem = (
                f"model version {version.version} has lost its {' and '.join(lacks)}; the run "
                f"that trained it, {version.run}, makes them again if it is repeated"
            )
            yield Damage("version", f"v{version.version}", problem, tuple(lacks.values()))


def _object_problem(place: Place, sha256: str, name: str) -> str | None:
    try:
        actual = place.backend.digest(name)
    except FileNotFoundError:  # swept meanwhile
        return None
    except OSError as error:  # unreadable medium, no permission, or no regular file
        return f"object {short(sha256)}… is damaged: {error}"
    if actual == sha256:
        return None
    where = f"{place.backend}/{name}"
    return f"object {short(sha256)}… is damaged: the bytes of {where} hash to {short(actual)}…"


def _lacks(place: Place, record: Record, there: Container[str]) -> tuple[str, ...]:
    return tuple(
        artifact.sha256
        for artifact in record.outputs.values()
        if artifact.sha256 not in there and not place.holds(object_name(artifact.sha256))
    )


def _is_sound(place: Place, damage: Damage, lies_at: str) -> bool:
    """Look once more at what was damaged, under the name that it has meanwhile."""
    try:
        if damage.kind == "object":
            return place.backend.digest(lies_at) == _sha256(damage.name)
        documents = place.documents()[damage.kind]
        name = documents.kind.name_in(damage.name)
        document = documents.parse(str(name), place.backend.read(lies_at))
    except (OSError, StorageError):
        return False
    return damage.kind != "record" or not _lacks(place, document, ())


def _sha256(object_file: str) -> str:
    return "".join(object_file.split("/")[1:])
