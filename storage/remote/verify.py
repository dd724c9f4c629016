"""Read everything in a shared store again, and repair what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from digitflow.storage.digests import digest_file, is_sha256, short
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, RecordDamagedError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.records import MAX_RECORD_BYTES, Record, is_stage_name
from digitflow.storage.remote.listing import RemoteFile
from digitflow.storage.remote.objects import SharedObjects, object_name
from digitflow.storage.remote.records import parse_record
from digitflow.storage.remote.remote import Remote
from digitflow.storage.remote.store import SharedStore
from digitflow.storage.runs import RUN_NAME, parse_run


@dataclass(frozen=True)
class SharedDamage:
    """One thing that is not what it should be.

    Attributes
    ----------
    kind
        ``object``, ``record`` or ``run``.
    name
        In the shared store.
    problem
        What is wrong, in a sentence.
    lacks
        What a sound record names and the store does not have.
    """

    kind: str
    name: str
    problem: str
    lacks: tuple[Artifact, ...] = ()


@dataclass
class SharedReport:
    """What was read, and the damage found.

    Attributes
    ----------
    objects, records
        How many were read.
    size
        Bytes of all objects.
    damaged
        What is wrong.
    """

    objects: int = 0
    records: int = 0
    size: int = 0
    damaged: list[SharedDamage] = field(default_factory=list)


def find_shared_damage(shared: SharedStore) -> SharedReport:
    """Download and hash every object, every stage's record and every run's record.

    Raises
    ------
    SharedStoreError
        If the shared store cannot be used.
    """
    remote, report = shared.remote, SharedReport()
    # Before the objects: what a record names is there before the record is.
    records = dict(_records(remote, report))
    for each in remote.files("runs"):
        if each.name.endswith(".json") and RUN_NAME.fullmatch(each.name.removesuffix(".json")):
            _check_run(remote, each, report)
    sizes = {}
    for name, each in sorted(remote.tree("objects").items()):
        sha256 = name.replace("/", "")
        if not is_sha256(sha256):
            continue
        sizes[sha256] = each.size
        problem = _object_problem(shared.objects, sha256, each.size)
        report.objects += 1
        report.size += each.size
        if problem is not None:
            report.damaged.append(SharedDamage("object", object_name(sha256), problem))
    for place, record in records.items():
        lacks = tuple(each for each in record.outputs.values() if each.sha256 not in sizes)
        if lacks:
            names = ", ".join(f"object {short(each.sha256)}…" for each in lacks)
            problem = f"{remote}/{place} names {names}, which the shared store does not have"
            report.damaged.append(SharedDamage("record", place, problem, lacks))
    return report


def repair_shared(shared: SharedStore, report: SharedReport) -> None:
    """Send again what this machine has sound, and remove what else is damaged.

    What is removed is missed by the stages that made it, and made again.
    """
    for damage in report.damaged:
        if damage.kind == "object":
            sha256 = damage.name.removeprefix("objects/").replace("/", "")
            if shared.objects.holds_here(sha256):
                shared.remote.send(shared.objects.path(sha256), damage.name)
                continue
            found = shared.remote.look(damage.name)
            if found is not None and _object_problem(shared.objects, sha256, found.size):
                shared.remote.delete(damage.name)  # nobody has healed it meanwhile
        elif not (damage.lacks and _sent(shared.objects, damage.lacks)):
            shared.remote.delete(damage.name)


def _sent(objects: SharedObjects, lacks: tuple[Artifact, ...]) -> bool:
    try:
        for artifact in lacks:
            objects.send(artifact)
    except (ObjectMissingError, ObjectDamagedError):
        return False
    return True


def _object_problem(objects: SharedObjects, sha256: str, size: int) -> str | None:
    name = object_name(sha256)
    with objects.temporary() as file:
        try:
            objects.remote.fetch(name, file, size)
        except FileNotFoundError:
            return None  # deleted meanwhile
        actual = digest_file(file)
    if actual == sha256:
        return None
    return f"the bytes of {objects.remote}/{name} hash to {short(actual)}…"


def _records(remote: Remote, report: SharedReport) -> Iterator[tuple[str, Record]]:
    for name, each in sorted(remote.tree("records").items()):
        stage, _, file = name.partition("/")
        key = file.removesuffix(".json")
        if not (is_stage_name(stage) and file.endswith(".json") and is_sha256(key)):
            continue
        place = f"records/{name}"
        report.records += 1
        try:
            yield place, parse_record(_read(remote, place, each), stage, key, f"{remote}/{place}")
        except RecordDamagedError as error:
            report.damaged.append(SharedDamage("record", place, str(error)))
        except FileNotFoundError:
            continue


def _check_run(remote: Remote, each: RemoteFile, report: SharedReport) -> None:
    place = f"runs/{each.name}"
    report.records += 1
    try:
        data = _read(remote, place, each)
        parse_run(data, each.name.removesuffix(".json"), f"{remote}/{place}")
    except RecordDamagedError as error:
        report.damaged.append(SharedDamage("run", place, str(error)))
    except FileNotFoundError:
        return


def _read(remote: Remote, place: str, each: RemoteFile) -> bytes:
    if each.size > MAX_RECORD_BYTES:
        message = f"{remote}/{place} is damaged: {each.size} bytes are too many for a record"
        raise RecordDamagedError(message)
    found = remote.read_many([place])
    if not found:
        raise FileNotFoundError(place)
    return found[place]
