"""What a store can do without, and removing it while runs go on.

Nothing is removed while anything that says what is needed cannot be read, be it a record, a run, a
model version or an alias: a damaged one may be all that keeps the weights of the champion.

A record or a run that has not been used for so many days can go, and so can what is noted of old
predictions, then every object that nothing left refers to, then what killed runs left behind. The
records that a champion is trained from once more stay, however old, and so do those of the version
that a rollback would go back to, and of one that is in quarantine or awaits an answer: `digitflow
reproduce` needs them.

No run is stopped meanwhile. Whoever serves a record touches it and its objects first, and
whoever adds an object touches that; whoever removes a file moves it aside and looks at its time
once more, and puts it back if it was touched (see `quarantine` beside this). Either the touch comes
before the move, and the file returns, or it fails, and the stage runs as if the file had never been
there. Objects are touched and not only their records, so that it does not matter to a run in
progress what another sweep sees of the records at that moment. What protects what machines share
is another matter: `storage.upkeep.places`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digitflow.storage.backends.atomic import remove
from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.backends.owner import refuse_anothers
from digitflow.storage.documents import COPIES, Documents
from digitflow.storage.errors import (
    LedgerError,
    RecordDamagedError,
    RootUnreadableError,
    StoreUnusableError,
)
from digitflow.storage.objects import object_entries
from digitflow.storage.store import Store
from digitflow.storage.sync_state import MARK
from digitflow.storage.upkeep.places import Here, Place, There
from digitflow.storage.upkeep.progress import Tell, nobody, telling
from digitflow.storage.upkeep.quarantine import settle

# However old, so many of the newest say whether what a model sees has drifted.
KEPT_BATCHES = 10
_TEMPORARY = ".tmp-"
_MOST_PROBLEMS = 10  # that are named one by one


@dataclass(frozen=True)
class Item:
    """Something that can go.

    Attributes
    ----------
    kind
        ``record``, ``run``, ``batch``, ``object``, ``scratch`` or ``temporary``.
    name
        The file or folder, below the store's root or URL.
    size
        Bytes.
    """

    kind: str
    name: str
    size: int


@dataclass
class Garbage:
    """What can go, or what was removed."""

    items: list[Item] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.items)

    def count(self, kind: str) -> int:
        """How many items of a kind."""
        return sum(item.kind == kind for item in self.items)


def find_garbage(
    store: Store, keep_days: float, *, shared: bool = False, tell: Tell = nobody
) -> Garbage:
    """Say what can go, without touching anything.

    Parameters
    ----------
    store
        The store.
    keep_days
        Records and runs used in so many days are kept, and so is the newest run.
    shared
        Whether to look at what lies behind the store's URL, and not at this machine's copies.
    tell
        Told how far it has come.

    Raises
    ------
    ValueError
        If `keep_days` is less than is safe for a shared store.
    SharedStoreError
        If there is none, or it cannot be used.
    RootUnreadableError
        If something that says what is needed cannot be read; names it.
    """
    if shared:
        return _collect(There(store), keep_days, tell)
    here = Here(store)
    return _collect(here, keep_days, tell, _scratch_folders(here))


def sweep(store: Store, keep_days: float, *, shared: bool = False, tell: Tell = nobody) -> Garbage:
    """Remove what can go; return what was removed. Parameters and errors as for `find_garbage`.

    Raises
    ------
    StoreUnusableError
        If the store cannot be written.
    """
    if shared:
        there = There(store)
        there.runs.complete_copies()
        return _collect(there, keep_days, tell, remove=lambda *what: _remove(there, *what))
    here = Here(store)
    refuse_anothers(store.root)
    with explaining("the store", store.root):
        settle(store.root)
        here.runs.complete_copies()
        return _collect(
            here, keep_days, tell, _scratch_folders(here), lambda *what: _remove_here(here, *what)
        )


def _collect(
    place: Place,
    keep_days: float,
    tell: Tell,
    scratch: Collection[Path] = (),
    remove: Callable[[Item, float], bool] | None = None,
) -> Garbage:
    """Go through all that is old, and remove it if that is asked for."""
    cutoffs = place.cutoffs(keep_days)
    needed, lineage = _needed(place, tell)
    garbage = Garbage()

    def take(items: Iterator[Item], cutoff: float) -> None:
        chosen = [item for item in items if remove is None or remove(item, cutoff)]
        garbage.items += chosen

    # Records first: an object is only looked at once nothing refers to it any more.
    take(_stale(place, cutoffs.documents, lineage), cutoffs.documents)
    for item in garbage.items:
        needed.pop(item.name, None)
    take(_unreferenced(place, cutoffs.others, needed, tell), cutoffs.others)
    take(_abandoned(place, cutoffs.others), cutoffs.others)
    take(_old_scratch(scratch, cutoffs.others), cutoffs.others)
    return garbage


def _stale(place: Place, cutoff: float, lineage: Collection[str]) -> Iterator[Item]:
    """Yield documents that nobody has used, and no model is made from."""
    records = [each for each in place.records.entries().values() if each.name not in lineage]
    runs = sorted(place.runs.entries().values(), key=lambda entry: entry.modified)
    # The newest run is what people want to compare the next one with.
    found = [*(("record", each) for each in records), *(("run", each) for each in runs[:-1])]
    for noun, others in place.others:
        if noun == "batch":
            found += [(noun, each) for each in [*others.entries().values()][:-KEPT_BATCHES]]
    for kind, entry in found:
        if entry.modified < cutoff and not (kind != "batch" and place.only_here(entry.name)):
            yield Item(kind, entry.name, entry.size)


def _needed(place: Place, tell: Tell) -> tuple[dict[str, set[str]], set[str]]:
    """Return the digests of the objects that are needed, by the file that says so.

    What is written after this was read needs no mention: its objects are too young to go. Return
    also the files of the records that models are made from which must stay reproducible.
    """
    problems: list[str] = []
    needed: dict[str, set[str]] = {}
    inputs: dict[str, tuple[str, ...]] = {}
    lineage: set[str] = set()
    named: tuple[tuple[Documents[Any], Callable[[Any], Iterator[str]]], ...] = (
        (place.records, _outputs),
        (place.runs, _outputs_of_run),
    )
    for documents, outputs in named:
        with _noting(problems):
            names = sorted(documents.names())
            bodies = documents.bodies(names)
            for name, body in telling(tell, documents.kind.folder, bodies, len(names)):
                if isinstance(body, RecordDamagedError):
                    problems.append(str(body))
                    continue
                try:
                    found = {*outputs(body)}
                    if documents is place.records:
                        inputs[documents.kind.file(name)] = (*body["document"]["inputs"].values(),)
                except (AttributeError, KeyError, TypeError):  # sound JSON, and not ours
                    problems.append(f"{documents.kind.title(name)} is damaged: it names no outputs")
                    continue
                needed[documents.kind.file(name)] = found
    with _noting(problems):
        needed[""] = {*place.in_use()}
        lineage = _lineage(place, needed, inputs)
    # Last, for reading runs has put right what it could. Copies say nothing that runs do not.
    problems += [why for name, why in place.blocked() if not name.startswith(COPIES)]
    if problems:
        raise RootUnreadableError(_unreadable(dict.fromkeys(problems)))
    return needed, lineage


def _lineage(
    place: Place, made: Mapping[str, Collection[str]], inputs: Mapping[str, Collection[str]]
) -> set[str]:
    """Return the files of all records of what such models are made from, by their digests."""
    makers: dict[str, list[str]] = {}
    for file in inputs:
        for sha256 in made[file]:
            makers.setdefault(sha256, []).append(file)
    found: set[str] = set()
    wanted = [each.sha256 for version in place.reproducible() for each in version.artifacts]
    while wanted:
        for file in makers.get(wanted.pop(), ()):
            if file not in found:
                found.add(file)
                wanted += inputs[file]
    return found


@contextmanager
def _noting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except (LedgerError, RecordDamagedError, StoreUnusableError) as error:
        problems.append(str(error))


def _unreadable(problems: Collection[str]) -> str:
    shown = [*problems][:_MOST_PROBLEMS]
    more = len(problems) - len(shown)
    return "\n".join(
        [
            "nothing is deleted, because not all that says what is needed can be read:",
            *(f"  {problem}" for problem in shown),
            *([f"  and {more} more"] if more else []),
            "digitflow verify --repair heals what can be healed, and says what cannot",
        ]
    )


def _outputs(record: Mapping[str, Any]) -> Iterator[str]:
    return (each["sha256"] for each in record["outputs"].values())


def _outputs_of_run(run: Mapping[str, Any]) -> Iterator[str]:
    return (sha256 for stage in run["stages"] for sha256 in _outputs(stage))


def _unreferenced(
    place: Place, cutoff: float, needed: Mapping[str, Collection[str]], tell: Tell
) -> Iterator[Item]:
    referenced = {sha256 for digests in needed.values() for sha256 in digests}
    objects = object_entries(place.backend)
    for sha256, entry in telling(tell, "objects", objects.items(), len(objects)):
        if sha256 not in referenced and entry.modified < cutoff:
            yield Item("object", entry.name, entry.size)


def _abandoned(place: Place, cutoff: float) -> Iterator[Item]:
    """Yield what killed writers left: temporary files, and marks of documents that have gone."""
    for folder, depth in place.temporary:
        try:
            listed = place.backend.list(folder, depth)
        except StoreUnusableError:  # in the place of a folder of copies; `verify` says so
            continue
        names = {entry.name for entry in listed}
        for entry in listed:
            is_left = (
                folder in ("objects/tmp", "unfinished")
                or entry.name.rpartition("/")[2].startswith(_TEMPORARY)
                or entry.name.endswith(MARK)
                and entry.name.removesuffix(MARK) + ".json" not in names
            )
            if is_left and entry.modified < cutoff:
                yield Item("temporary", entry.name, entry.size)


def _remove(place: Place, item: Item, cutoff: float) -> bool:
    def is_used(name: str) -> bool:
        entry = place.backend.stat(name)
        return entry is None or entry.modified >= cutoff

    if not place.remove_unless(item.name, is_used):
        return False
    if item.kind == "run":  # the other way round, a killed sweep would leave a run without its copy
        place.backend.delete(f"{COPIES}/{item.name}")
    return True


def _remove_here(here: Here, item: Item, cutoff: float) -> bool:
    path = here.folder.path(item.name)
    if item.kind == "temporary":
        remove(path)
        return True
    if item.kind != "scratch":
        return _remove(here, item, cutoff)
    with here.locks.idle(path.name) as idle:  # somebody may have begun to compute in it
        if not idle or _newest(path) >= cutoff:
            return False
        remove(path)
        return True


def _scratch_folders(here: Here) -> list[Path]:
    folder = here.root / "scratch"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _old_scratch(folders: Collection[Path], cutoff: float) -> Iterator[Item]:
    """Yield what killed runs left in the folders that they computed in."""
    for folder in folders:
        if _newest(folder) < cutoff:
            size = sum(_size(file) for file in _with_contents(folder))
            yield Item("scratch", f"scratch/{folder.name}", size)


def _newest(folder: Path) -> float:
    return max(_time(path) for path in _with_contents(folder))


def _with_contents(path: Path) -> list[Path]:
    """Return a path and all that lies below it; just itself if it is removed meanwhile."""
    try:
        return [path, *path.rglob("*")]
    except FileNotFoundError:
        return [path]


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
