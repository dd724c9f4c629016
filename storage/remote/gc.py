"""What a shared store can do without, and removing it while machines use it.

No lock reaches from one machine to another, so age decides alone. Machines write a record
again that they have used for `storage.remote.sync_state.RENEWAL_SECONDS`, and an object that a new
record names and that lay there for as long. A sweep takes nothing that was written in twice
that time, and looks at the time of each thing once more before it deletes it. Who serves a record
all the same that goes at that very moment loses a hit, not a result: what is missing is
computed again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from digitflow.storage.digests import is_sha256
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.records import MAX_RECORD_BYTES, is_stage_name
from digitflow.storage.remote.listing import RemoteFile
from digitflow.storage.remote.records import parse_record
from digitflow.storage.remote.remote import Remote
from digitflow.storage.remote.sync_state import RENEWAL_SECONDS
from digitflow.storage.runs import RUN_NAME, parse_run

MIN_KEEP_DAYS = 2 * RENEWAL_SECONDS / 86_400.0


@dataclass(frozen=True)
class SharedItem:
    """Something that can go.

    Attributes
    ----------
    kind
        ``record``, ``run``, ``object`` or ``temporary``.
    name
        In the shared store.
    size
        Bytes.
    """

    kind: str
    name: str
    size: int


def find_shared_garbage(
    remote: Remote, keep_days: float, in_use: Collection[str] = ()
) -> list[SharedItem]:
    """Say what can go from a shared store, without touching anything.

    Parameters
    ----------
    remote
        The shared store.
    keep_days
        Records and runs written in so many days are kept, and so is the newest run.
    in_use
        Digests of objects that are kept besides, such as those of this machine's models.

    Raises
    ------
    ValueError
        If `keep_days` is less than is safe beside machines that use the store.
    SharedStoreError
        If the shared store cannot be used.
    """
    if keep_days < MIN_KEEP_DAYS:
        message = (
            f"expected at least {MIN_KEEP_DAYS:g} days for a shared store, found {keep_days:g}: "
            "other machines may be using what is younger"
        )
        raise ValueError(message)
    return list(_find(remote, _Cutoffs.now(keep_days), set(in_use)))


def sweep_shared(
    remote: Remote, keep_days: float, in_use: Collection[str] = ()
) -> list[SharedItem]:
    """Remove what can go from a shared store; return what was removed. Raises likewise."""
    removed = []
    cutoffs = _Cutoffs.now(keep_days)
    for item in find_shared_garbage(remote, keep_days, in_use):
        found = remote.look(item.name)
        if found is not None and _older(found, cutoffs.of(item.kind)):
            remote.delete(item.name)
            removed.append(item)
    return removed


@dataclass(frozen=True)
class _Cutoffs:
    records: float
    objects: float

    @classmethod
    def now(cls, keep_days: float) -> _Cutoffs:
        moment = time.time()
        return cls(moment - keep_days * 86_400, moment - MIN_KEEP_DAYS * 86_400)

    def of(self, kind: str) -> float:
        return self.records if kind in ("record", "run") else self.objects


def _find(remote: Remote, cutoffs: _Cutoffs, in_use: set[str]) -> Iterator[SharedItem]:
    records = {
        name: each for name, each in remote.tree("records").items() if _is_record(name, each)
    }
    runs = {
        each.name: each
        for each in remote.files("runs")
        if each.name.endswith(".json") and RUN_NAME.fullmatch(each.name.removesuffix(".json"))
    }
    newest = max(runs, key=lambda name: runs[name].modified or 0.0, default=None)
    old_records = {name for name, each in records.items() if _older(each, cutoffs.records)}
    old_runs = {
        name for name, each in runs.items() if _older(each, cutoffs.records) and name != newest
    }
    # Records first: whoever deletes in this order leaves none that names what has gone.
    for name in sorted(old_records):
        yield SharedItem("record", f"records/{name}", records[name].size)
    for name in sorted(old_runs):
        yield SharedItem("run", f"runs/{name}", runs[name].size)
    kept = {
        *in_use,
        *_record_references(remote, set(records) - old_records),
        *_run_references(remote, {name for name in runs if name not in old_runs}, runs),
    }
    for name, each in sorted(remote.tree("objects").items()):
        sha256 = name.replace("/", "")
        if is_sha256(sha256) and sha256 not in kept and _older(each, cutoffs.objects):
            yield SharedItem("object", f"objects/{name}", each.size)
    for each in remote.files("unfinished"):
        if _older(each, cutoffs.objects):
            yield SharedItem("temporary", f"unfinished/{each.name}", each.size)


def _is_record(name: str, each: RemoteFile) -> bool:
    stage, _, file = name.partition("/")
    return (
        is_stage_name(stage)
        and file.endswith(".json")
        and is_sha256(file.removesuffix(".json"))
        and each.size <= MAX_RECORD_BYTES
    )


def _record_references(remote: Remote, names: set[str]) -> Iterator[str]:
    for place, data in remote.read_many(f"records/{name}" for name in names).items():
        _, stage, file = place.split("/")
        try:
            record = parse_record(data, stage, file.removesuffix(".json"), place)
        except RecordDamagedError:
            continue  # it serves nothing, so it keeps nothing
        yield from (artifact.sha256 for artifact in record.outputs.values())


def _run_references(remote: Remote, names: set[str], runs: dict[str, RemoteFile]) -> Iterator[str]:
    readable = [f"runs/{name}" for name in names if runs[name].size <= MAX_RECORD_BYTES]
    for place, data in remote.read_many(readable).items():
        try:
            run = parse_run(data, place.split("/")[1].removesuffix(".json"), place)
        except RecordDamagedError:
            continue
        for stage in run.stages:
            yield from (each["sha256"] for each in stage["outputs"].values())


def _older(each: RemoteFile, cutoff: float) -> bool:
    """Tell whether something was written before; what has no time is left alone."""
    return each.modified is not None and each.modified < cutoff
