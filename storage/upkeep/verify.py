"""Read everything in a store again, and put right what is damaged.

What stages gave can be computed again, so a damaged record or object is removed, unless it can be
had from elsewhere. What nothing can make again, such as a run, a model version or an alias, is
healed from its copy or left as it is: never removed.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.backends.owner import refuse_anothers
from digitflow.storage.digests import short
from digitflow.storage.documents import COPIES, Documents, T
from digitflow.storage.errors import (
    LedgerError,
    RecordDamagedError,
    StorageError,
    StoreUnusableError,
)
from digitflow.storage.history.models import LedgerEntry
from digitflow.storage.objects import object_entries, object_name
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.storage.upkeep.places import Here, Place, There
from digitflow.storage.upkeep.progress import Tell, nobody, telling

_AGAIN = {
    "record": "removed; its stage runs again when a run needs it",
    "source": "removed; the source is asked again",
    "batch": "removed; nothing makes it again",
}
_LEFT = "left as it is, for a repair cannot make it again: "


@dataclass(frozen=True)
class Damage:
    """One thing that is not what it should be.

    Attributes
    ----------
    kind
        ``object``, ``record``, ``run``, ``copy`` (of a run's record), ``source``, ``batch``,
        ``ledger entry``, ``model`` (what a version of one needs), or ``folder``: something else
        lies where a folder must.
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
    named
        Digests of the objects that sound records name as outputs.
    """

    objects: int = 0
    records: int = 0
    size: int = 0
    damaged: list[Damage] = field(default_factory=list)
    named: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Repair:
    """What was done about a damage.

    Attributes
    ----------
    damage
        The damage.
    done
        What was done, in words.
    is_healed
        Whether it is no damage any more.
    """

    damage: Damage
    done: str
    is_healed: bool = True


def find_damage(store: Store, *, shared: bool = False, tell: Tell = nobody) -> Report:
    """Verify every object, every stage's record, every run's record, and the rest.

    Parameters
    ----------
    store
        The store.
    shared
        Whether to download and hash what lies behind the store's URL. Otherwise it is what this
        machine keeps of it, which need not be all of it.
    tell
        Told how far it has come.

    Raises
    ------
    SharedStoreError
        If there is no shared store, or it cannot be used.
    StoreUnusableError
        If the store's own folder cannot be there, as below a file.
    """
    place = _place(store, shared)
    report = Report()
    blocked = [Damage("folder", name, problem) for name, problem in place.blocked()]
    if blocked and not shared and not store.root.is_dir():
        # It is not the folders: the store itself cannot be where it ought to be.
        raise StoreUnusableError(blocked[0].problem)
    report.damaged += blocked
    # Before the objects: what a record names is there before the record is.
    outputs = {
        file: _outputs(record) for file, record in _sound(report, "record", place.records, tell)
    }
    for _ in _sound(report, "run", place.runs, tell):
        pass
    report.named = {sha256 for digests in outputs.values() for sha256 in digests}
    objects = object_entries(place.backend) if _can_list(place) else {}
    for sha256, entry in telling(tell, "objects", objects.items(), len(objects)):
        report.objects += 1
        report.size += entry.size
        problem = _object_problem(place, sha256, entry.name)
        if problem is not None:
            report.damaged.append(Damage("object", entry.name, problem))
    for file, digests in outputs.items() if place.is_whole else ():
        lacks = _lacks(place, digests, objects)
        if lacks and place.holds(file):
            names = ", ".join(f"object {short(sha256)}…" for sha256 in lacks)
            problem = f"{place.backend}/{file} names {names}, which is missing"
            report.damaged.append(Damage("record", file, problem, lacks))
    for noun, documents in place.others:
        sound = dict(_sound(report, noun, documents, tell))
        if noun == "ledger entry":
            report.damaged += _odd_entries(store, sound)
    if place.is_whole:
        report.damaged += _lost_of_models(place, objects)
    return report


def repair(store: Store, report: Report, *, shared: bool = False) -> list[Repair]:
    """Put right what can be put right, and remove what else is damaged and can be made again.

    What has been healed since it was found damaged is left alone, and so is what nothing makes
    again: runs without a sound copy, model versions, aliases.

    Returns
    -------
    list of Repair
        What was done about each damage.

    Raises
    ------
    StoreUnusableError
        If the store cannot be written.
    """
    place = _place(store, shared)
    if not shared:
        refuse_anothers(store.root)
    with explaining("the store", store.root):
        if any(damage.kind == "ledger entry" for damage in report.damaged):
            store.models.ledger.repair()
        done = [_repair(place, report, damage) for damage in report.damaged]
        place.runs.complete_copies()
    return done


def _repair(place: Place, report: Report, damage: Damage) -> Repair:
    if damage.kind == "folder":
        return _clear(place, damage)
    if damage.kind in ("run", "copy"):
        return _heal_run(place, damage)
    if damage.kind == "ledger entry" and _is_healed_entry(place, damage):
        return Repair(damage, "healed from a copy")
    if damage.kind in {noun for noun, _ in place.roots} or damage.kind == "model":
        way_out = (
            "a run of the same training makes it again"
            if damage.name.startswith("objects/")
            else "take its file from a backup"
        )
        return Repair(damage, _LEFT + way_out, is_healed=False)
    wanted = (_sha256(damage.name),) if damage.kind == "object" else damage.lacks
    if wanted and all([place.heal(sha256) for sha256 in wanted]):
        return Repair(damage, "sent again from this machine")
    if not place.remove_unless(damage.name, partial(_is_sound, place, damage)):
        return Repair(damage, "sound, or gone, when it was looked at again: left alone")
    if damage.kind != "object":
        return Repair(damage, _AGAIN[damage.kind])
    if _sha256(damage.name) in report.named:
        return Repair(damage, "removed; the stage that made it runs again when a run needs it")
    return Repair(damage, "removed; no sound record says which stage made it")


def _clear(place: Place, damage: Damage) -> Repair:
    """Move away what lies in a folder's place, unless what the folder held is lost with it."""
    lost = [
        documents
        for _, documents in place.roots
        if documents.kind.folder.startswith(damage.name) and not documents.kind.is_copied
    ]
    copied = [each for _, each in place.roots if each.kind.folder == damage.name]
    try:
        has_copies = any(each.entries() for each in copied)
    except StoreUnusableError:
        has_copies = False
    if lost or (copied and not has_copies):
        return Repair(damage, _LEFT + "take the folder from a backup", is_healed=False)
    moved = place.backend.clear_way(f"{damage.name}/x")
    if moved is None:
        return Repair(damage, "left as it is: a folder that cannot be listed", is_healed=False)
    for documents in copied:
        for _ in documents.readable():  # which heals each from its copy
            pass
    return Repair(damage, f"moved to {place.backend}/{moved}")


def _heal_run(place: Place, damage: Damage) -> Repair:
    name = place.runs.kind.name_in(damage.name.removeprefix(f"{COPIES}/"))
    try:
        if damage.kind == "copy":
            place.runs.write_copy(str(name))
            return Repair(damage, "written again from the run's record")
        place.runs.load(str(name))
    except (FileNotFoundError, RecordDamagedError):
        message = _LEFT + "its copy is damaged or missing, too. Take one of them from a backup"
        return Repair(damage, message, is_healed=False)
    return Repair(damage, "healed from its copy")


def _odd_entries(store: Store, sound: Mapping[str, LedgerEntry]) -> Iterator[Damage]:
    """Yield the entries that are sound in themselves and not those of the chain."""
    try:
        chain = store.models.ledger.read()
    except (LedgerError, StoreUnusableError):
        return  # said by whoever asks for a model; a folder that is none is said already
    for file, entry in sound.items():
        if entry.order > len(chain) or entry.digest != chain[entry.order - 1].digest:
            problem = f"ledger entry {entry.order} is damaged: {file} is not the one of the chain"
            yield Damage("ledger entry", file, problem)


def _is_healed_entry(place: Place, damage: Damage) -> bool:
    for _, documents in place.others:
        name = documents.kind.name_in(damage.name)
        if name is not None:
            try:
                documents.load(name)
            except (FileNotFoundError, RecordDamagedError):
                return False
    return True


def _lost_of_models(place: Place, there: Container[str]) -> Iterator[Damage]:
    """Yield the objects that versions of models need and the store does not have."""
    try:
        needed = sorted({*place.in_use()})
    except (LedgerError, RecordDamagedError, StoreUnusableError):
        return  # said already
    for sha256 in needed:
        name = object_name(sha256)
        if sha256 not in there and not place.holds(name):
            problem = (
                f"object {short(sha256)}… is missing: expected it at {place.backend}/{name}, for "
                "a version of a model refers to it; a run of the same training makes it again"
            )
            yield Damage("model", name, problem)


def _place(store: Store, shared: bool) -> Place:
    return There(store) if shared else Here(store)


def _can_list(place: Place) -> bool:
    return not any(name == "objects" for name, _ in place.blocked())


def _sound(
    report: Report, noun: str, documents: Documents[T], tell: Tell
) -> Iterator[tuple[str, T]]:
    """Read documents, note what is damaged, and yield the others with their files.

    Of a hundred thousand nobody may keep all: they are gigabytes.
    """
    try:
        names = sorted(documents.names())
    except StoreUnusableError:
        return  # said already
    for name in telling(tell, documents.kind.folder, names, len(names)):
        file = documents.kind.file(name)
        try:
            yield file, documents.examine(name)
        except FileNotFoundError:  # gone meanwhile, unless its copy is still there
            if documents.kind.is_copied and documents.backend.stat(documents.kind.copy(name)):
                problem = f"{documents.kind.title(name)} is missing: {documents.place(name)}"
                report.damaged.append(Damage(noun, file, problem))
            continue
        except RecordDamagedError as error:
            report.damaged.append(Damage(noun, file, str(error)))
        report.records += noun in ("record", "run")
        if documents.kind.is_copied:
            try:
                documents.examine_copy(name)
            except FileNotFoundError:  # of an older digitflow; the next run writes it
                continue
            except RecordDamagedError as error:
                problem = f"the copy of {error}"
                report.damaged.append(Damage("copy", documents.kind.copy(name), problem))


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


def _outputs(record: Record) -> tuple[str, ...]:
    return tuple(artifact.sha256 for artifact in record.outputs.values())


def _lacks(place: Place, digests: Iterable[str], there: Container[str]) -> tuple[str, ...]:
    return tuple(
        sha256 for sha256 in digests if sha256 not in there and not place.holds(object_name(sha256))
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
    return damage.kind != "record" or not _lacks(place, _outputs(document), ())


def _sha256(object_file: str) -> str:
    return "".join(object_file.split("/")[1:])
