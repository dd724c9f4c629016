"""What the store can do without, and removing it while runs go on.

A record or a run that has not been used for so many days can go, and so can what is noted of old
predictions, then every object that nothing left refers to, then what killed runs left in scratch
folders. Nothing goes that was made or used since the oldest run in progress started.

No run is stopped meanwhile. Whoever serves a record touches it and its objects first, and
whoever adds an object touches that; whoever removes a file moves it aside and looks at its time
once more, and puts it back if it was touched (see `storage.quarantine`). Either the touch comes
before the move, and the file returns, or it fails, and the stage runs as if the file had never
been there. Objects are touched and not only their records, so that it does not matter to a run in
progress what another sweep sees of the records at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from digitflow.storage.atomic import remove
from digitflow.storage.cache import Cache
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.liveness import oldest_start
from digitflow.storage.os_errors import explaining
from digitflow.storage.quarantine import remove_unless, settle
from digitflow.storage.remote.sync_state import is_sent

# However old, so many of the newest say whether what a model sees has drifted.
KEPT_BATCHES = 10
# What a starting run has just made and not yet recorded must never look abandoned.
_GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Item:
    """Something that can go.

    Attributes
    ----------
    kind
        ``record``, ``run``, ``batch``, ``object``, ``scratch`` or ``temporary``.
    path
        The file or folder.
    size
        Bytes.
    """

    kind: str
    path: Path
    size: int


@dataclass
class Garbage:
    """What can go, and what was removed of it."""

    items: list[Item] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)

    def count(self, kind: str) -> int:
        """How many items of a kind."""
        return sum(item.kind == kind for item in self.items)


def find_garbage(cache: Cache, keep_days: float) -> Garbage:
    """Say what can go, without touching anything.

    Parameters
    ----------
    cache
        The store.
    keep_days
        Records and runs used in so many days are kept, and so is the newest run.
    """
    cutoffs = _Cutoffs.now(cache, keep_days)
    stale = [_item("record", path) for path in _stale_records(cache, cutoffs)]
    stale += [_item("run", path) for path in _stale_runs(cache, cutoffs)]
    stale += [_item("batch", path) for path in _stale_batches(cache, cutoffs)]
    gone = {item.path for item in stale}
    return Garbage([*stale, *_unreferenced(cache, cutoffs, gone), *_abandoned(cache, cutoffs)])


def sweep(cache: Cache, keep_days: float) -> Garbage:
    """Remove what can go; return what was removed.

    Raises
    ------
    StoreUnusableError
        If the store cannot be written.
    """
    with explaining("the store", cache.root):
        return _sweep(cache, _Cutoffs.now(cache, keep_days))


def _sweep(cache: Cache, cutoffs: _Cutoffs) -> Garbage:
    settle(cache.root)
    removed = Garbage()
    # Records first: an object is only looked at once nothing on disk refers to it any more.
    for path in _stale_records(cache, cutoffs):
        _remove(cache, _item("record", path), cutoffs.records, removed)
    for path in _stale_runs(cache, cutoffs):
        _remove(cache, _item("run", path), cutoffs.records, removed)
    for path in _stale_batches(cache, cutoffs):
        _remove(cache, _item("batch", path), cutoffs.records, removed)
    for item in list(_unreferenced(cache, cutoffs, set())):
        _remove(cache, item, cutoffs.objects, removed)
    for item in list(_abandoned(cache, cutoffs)):
        if item.kind == "scratch":
            _remove_scratch(cache, item, cutoffs.objects, removed)
        else:
            remove(item.path)
            removed.items.append(item)
    return removed


@dataclass(frozen=True)
class _Cutoffs:
    """Times before which things are old: for records and runs, and for everything else."""

    records: float
    objects: float

    @classmethod
    def now(cls, cache: Cache, keep_days: float) -> _Cutoffs:
        moment = time.time()
        live = oldest_start(cache.root / "live")
        # Without a run in progress nothing is half done, but one may start any moment.
        objects = min(moment, live if live is not None else moment) - _GRACE_SECONDS
        return cls(min(moment - keep_days * 86_400, objects), objects)


def _stale_records(cache: Cache, cutoffs: _Cutoffs) -> Iterator[Path]:
    for path in cache.records.root.glob("*/*.json"):
        if _time(path) < cutoffs.records and not _only_here(cache, path):
            yield path


def _stale_runs(cache: Cache, cutoffs: _Cutoffs) -> Iterator[Path]:
    runs = sorted(cache.runs.root.glob("*.json"), key=_time, reverse=True)
    for path in runs[1:]:  # the newest is what people want to compare the next one with
        if _time(path) < cutoffs.records and not _only_here(cache, path):
            yield path


def _stale_batches(cache: Cache, cutoffs: _Cutoffs) -> Iterator[Path]:
    for path in cache.batches.files()[:-KEPT_BATCHES]:
        if _time(path) < cutoffs.records:
            yield path


def _only_here(cache: Cache, path: Path) -> bool:
    """Tell whether a shared store is still to be sent this record."""
    return cache.shared is not None and not is_sent(path)


def _unreferenced(cache: Cache, cutoffs: _Cutoffs, gone: set[Path]) -> Iterator[Item]:
    referenced = set(_references(cache, gone))
    for sha256 in cache.objects:
        path = cache.objects.path(sha256)
        if sha256 not in referenced and _time(path) < cutoffs.objects:
            yield _item("object", path)


def _references(cache: Cache, gone: Iterable[Path]) -> Iterator[str]:
    """Yield the digest of every object that a record or a run refers to."""
    cache = cache.local
    for path in cache.records.root.glob("*/*.json"):
        if path in gone:
            continue
        try:
            record = cache.records.load(path.parent.name, path.stem)
        except (RecordDamagedError, ValueError):
            continue  # it serves nothing, so it keeps nothing; `verify` lists it
        if record is not None:
            yield from (artifact.sha256 for artifact in record.outputs.values())
    for path in cache.runs.root.glob("*.json"):
        if path in gone:
            continue
        try:
            run = cache.runs.load(path.stem)
        except (RecordDamagedError, FileNotFoundError, ValueError):
            continue
        for stage in run.stages:
            yield from (each["sha256"] for each in stage["outputs"].values())
    yield from cache.models.references()


def _abandoned(cache: Cache, cutoffs: _Cutoffs) -> Iterator[Item]:
    """Yield what killed runs left: scratch folders, temporary files."""
    for folder in _entries(cache.root / "scratch"):
        if _newest(folder) < cutoffs.objects:
            yield _item("scratch", folder)
    for path in [
        *cache.root.glob(".tmp-*"),
        *_entries(cache.objects.root / "tmp"),
        *cache.records.root.glob("*/.tmp-*"),
        *cache.runs.root.glob(".tmp-*"),
        *cache.sources.root.glob(".tmp-*"),
        *cache.models.root.glob("*/.tmp-*"),
        *cache.batches.root.glob(".tmp-*"),
        *(path for path in _marks(cache) if not path.with_suffix(".json").exists()),
    ]:
        if _time(path) < cutoffs.objects:
            yield _item("temporary", path)


def _marks(cache: Cache) -> list[Path]:
    """Return what says of a record that the shared store has it."""
    return [*cache.records.root.glob("*/*.sent"), *cache.runs.root.glob("*.sent")]


def _remove(cache: Cache, item: Item, cutoff: float, removed: Garbage) -> None:
    if remove_unless(cache.root, item.path, lambda aside: _time(aside) >= cutoff):
        removed.items.append(item)


def _remove_scratch(cache: Cache, item: Item, cutoff: float, removed: Garbage) -> None:
    """Remove a scratch folder, unless somebody has begun to compute in it."""
    with cache.locks.idle(item.path.name) as idle:
        if idle and _newest(item.path) < cutoff:
            remove(item.path)
            removed.items.append(item)


def _newest(folder: Path) -> float:
    return max(_time(path) for path in _with_contents(folder))


def _item(kind: str, path: Path) -> Item:
    return Item(kind, path, sum(_size(file) for file in _with_contents(path)))


def _with_contents(path: Path) -> list[Path]:
    """Return a path and all that lies below it; just itself if it is removed meanwhile."""
    try:
        return [path, *path.rglob("*")]
    except FileNotFoundError:
        return [path]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # removed meanwhile: as if it were new, so it is left alone
        return float("inf")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0
