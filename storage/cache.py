"""The cache: a key gives a verified record, or the reason why there is none."""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.storage.backends.atomic import make_folder
from digitflow.storage.backends.os_errors import explaining, explaining_full_disk
from digitflow.storage.digests import short
from digitflow.storage.errors import (
    ArtifactError,
    ObjectDamagedError,
    ObjectMissingError,
    RecordDamagedError,
)
from digitflow.storage.formats.arrays import describe
from digitflow.storage.formats.artifacts import (
    FOLDER,
    FORMATS,
    Artifact,
    size_of,
    take_over,
    write_artifact,
)
from digitflow.storage.formats.mapped import file_of
from digitflow.storage.keys import StageKey, differences
from digitflow.storage.records import Record, now

if TYPE_CHECKING:
    from digitflow.storage.store import Store

# So many of a stage's newest records are looked at to say why there is none for a key, and so many
# of each of its calls.
_MOST_TO_COMPARE = 200
_MOST_OF_A_CALL = 10
# They are for people to read, so it does not matter that another process has made newer ones.
_remembered: dict[tuple[Path, str], _Recent] = {}
_remembering = threading.Lock()

# Stands for the run in the record of outputs that no run of ours made.
_FOUND = "(found in the store)"


@dataclass(frozen=True)
class Lookup:
    """The answer for one key.

    Attributes
    ----------
    key
        The key's digest.
    record
        The verified record, or None on a miss.
    reasons
        Why it is a miss; empty on a hit.
    """

    key: str
    record: Record | None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a stage's outputs were obtained.

    Attributes
    ----------
    record
        The verified or new record.
    reasons
        Why it was computed; empty if it was served from the cache.
    """

    record: Record
    reasons: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        """Whether nothing was computed."""
        return not self.reasons


@dataclass(frozen=True)
class Notes:
    """What a record says of the computation beside its key: see `Record`."""

    observed: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)


class Cache:
    """What stages gave, served by their keys or computed.

    Parameters
    ----------
    store
        Where it is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._verified: set[Artifact] | None = None

    def look_up(
        self,
        key: StageKey,
        label: str,
        *,
        refresh: bool = False,
        pinned: Mapping[str, str] | None = None,
        formats: Mapping[str, str] | None = None,
        explain: bool = True,
        changes: Callable[[Record], Sequence[str]] | None = None,
    ) -> Lookup:
        """Find the record of a key and verify every object that it names.

        Parameters
        ----------
        key
            The stage's key.
        label
            Name of the task run; among earlier records, those of the same name explain best.
        refresh
            Treat a hit as a miss, because somebody asked for it.
        pinned
            Output → SHA-256 that is promised for it, for each output of a stage whose outputs
            are files. If the store holds them all, that is a hit, record or not.
        formats
            The format of each output by name, where the caller counts on them: a record of
            other outputs is damaged.
        explain
            Compare with earlier records to say why it is a miss.
        changes
            Says what, of what a record observed, is not as it was: then it is a miss.
        """
        digest = key.digest()
        if refresh:
            return Lookup(digest, None, ("refresh asked for",))
        damage = None
        try:
            record = self._store.records.load(key.stage, digest)
            if record is not None:
                self._verify(record, pinned or {}, formats)
        except (RecordDamagedError, ObjectMissingError, ObjectDamagedError) as error:
            record, damage = None, str(error).partition(": ")[0]
        changed = changes(record) if record is not None and changes is not None else ()
        if changed:
            return Lookup(digest, None, tuple(changed))
        if record is None and pinned:
            record = self._recognise(key, digest, label, pinned)
        if record is None:
            reasons = (damage,) if damage else self._explain(key, label) if explain else ()
            return Lookup(digest, None, reasons)
        return Lookup(digest, record)

    def obtain(
        self,
        key: StageKey,
        label: str,
        compute: Callable[[Path], Mapping[str, Any]],
        formats: Mapping[str, str],
        *,
        run: str,
        refresh: bool = False,
        pinned: Mapping[str, str] | None = None,
        on_miss: Callable[[tuple[str, ...]], None] | None = None,
        on_wait: Callable[[str], None] | None = None,
        changes: Callable[[Record], Sequence[str]] | None = None,
        notes: Callable[[], Notes] | None = None,
    ) -> Outcome:
        """Serve a key from the cache, or compute its outputs, commit them and serve those.

        Of several processes that want the same key one computes; the others wait and are
        then served. If the one that computes dies, the next in line takes over.

        Parameters
        ----------
        key, label, refresh, pinned
            As for `look_up`.
        compute
            Called on a miss with a scratch folder that survives a killed attempt and is
            swept after success; returns values by name.
        formats
            The format of each value by name.
        run
            Name of the run, for the record.
        on_miss
            Called with the reasons just before `compute`.
        on_wait
            Called every second while somebody else computes this key, with who that is. What
            it raises ends the wait, and nothing else does.
        changes
            As for `look_up`.
        notes
            Called after `compute`; what it returns is kept in the record.

        Raises
        ------
        ArtifactError
            If `compute` returns other names than `formats` declares, a value that does not
            fit its format, or other bytes than were promised.
        StorageFullError
            If there is no room for the outputs, or for what `compute` writes.
        StoreUnusableError
            If the store cannot be written.
        """
        lookup = self.look_up(
            key, label, refresh=refresh, pinned=pinned, formats=formats, changes=changes
        )
        if lookup.record is not None and self.serve(lookup.record):
            return Outcome(lookup.record)
        seen = self._recorded(key, lookup.key) if refresh else None
        with self._store.locks.computing(lookup.key, run, on_wait), self._store.in_use():
            # What the store holds under a promised digest is no answer to a refresh.
            again = self.look_up(
                key,
                label,
                pinned=None if refresh else pinned,
                formats=formats,
                changes=changes,
                explain=False,
            )
            # A record that appeared while we waited also answers a refresh that was asked before.
            # Whether it appeared is told by what it says, never by a time: clocks differ.
            answers = not refresh or again.record != seen
            if again.record is not None and answers and self.serve(again.record):
                return Outcome(again.record)
            reasons = lookup.reasons or ("swept while it was looked up",)
            if on_miss is not None:
                on_miss(reasons)
            scratch = self._store.root / "scratch" / lookup.key
            with explaining("the scratch folder", self._store.root):
                make_folder(scratch)
            # Before `compute`, which may change a list that it was given.
            document = deepcopy(key.document())
            started = time.perf_counter()
            with explaining_full_disk(f"what {label} writes", scratch):
                values = compute(scratch)
            outputs = self._commit(values, formats, label, scratch)
            _check_pins(outputs, pinned or {}, label)
            seconds = round(time.perf_counter() - started, 3)
            noted = Notes() if notes is None else notes()
            record = Record(
                lookup.key,
                label,
                document,
                outputs,
                run,
                now(),
                seconds,
                observed=noted.observed,
                made_with=noted.made_with,
            )
            with explaining(f"the record of {label}", self._store.root):
                self._store.records.save(record)
            self._remember(record)
            shutil.rmtree(scratch, ignore_errors=True)
        return Outcome(record, reasons)

    def _recorded(self, key: StageKey, digest: str) -> Record | None:
        """Return the record of a key as it is now, or None if there is none that can be read."""
        try:
            return self._store.records.load(key.stage, digest)
        except RecordDamagedError:
            return None

    def _verify(
        self, record: Record, pinned: Mapping[str, str], formats: Mapping[str, str] | None
    ) -> None:
        found = {name: artifact.format for name, artifact in record.outputs.items()}
        if formats is not None and found != dict(formats):
            message = (
                f"record {short(record.key)}… is damaged: it names other outputs than the stage has"
            )
            raise RecordDamagedError(message)
        if pinned and pinned != {name: each.sha256 for name, each in record.outputs.items()}:
            message = (
                f"record {short(record.key)}… is damaged: it names other outputs than promised"
            )
            raise RecordDamagedError(message)
        for artifact in record.outputs.values():
            if self._verified is None or artifact not in self._verified:
                self._store.objects.verify(artifact.sha256, artifact.size)
            if self._verified is not None:
                self._verified.add(artifact)

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Hash no object twice in the context, which is to last a moment: no use of the store."""
        self._verified = set()
        try:
            yield
        finally:
            self._verified = None

    def _recognise(
        self, key: StageKey, digest: str, label: str, pinned: Mapping[str, str]
    ) -> Record | None:
        """Build the record of promised outputs that the store already holds."""
        if not all(self._store.objects.holds(sha256) for sha256 in pinned.values()):
            return None
        outputs = {
            name: Artifact(sha256, self._store.objects.path(sha256).stat().st_size, "file")
            for name, sha256 in pinned.items()
        }
        return Record(digest, label, key.document(), outputs, _FOUND, now(), 0.0)

    def serve(self, record: Record) -> bool:
        """Note that a verified record is used now.

        Returns
        -------
        bool
            False if the record was swept since it was looked up: it must not be served then.
        """
        try:
            with explaining(f"the last use of {record.label}", self._store.root):
                for artifact in record.outputs.values():
                    self._store.objects.mark_used(artifact.sha256)
                if record.run == _FOUND:  # there may be none on disk, or a damaged one
                    self._store.records.keep(record)
                else:
                    self._store.records.mark_used(record)
        except FileNotFoundError:
            return False
        return True

    def _commit(
        self, values: Any, formats: Mapping[str, str], label: str, scratch: Path
    ) -> dict[str, Artifact]:
        if not isinstance(values, Mapping):
            message = f"{label}: expected the outputs in a mapping, found {values!r:.200}"
            raise ArtifactError(message)
        if set(values) != set(formats):
            message = (
                f"{label}: expected the outputs {', '.join(sorted(formats))}, "
                f"found {', '.join(sorted(values)) or 'none'}"
            )
            raise ArtifactError(message)
        with ExitStack() as stack:
            # Nothing is stored, and nothing moved, before all of it is known to come back.
            moved: set[Path] = set()
            written = {
                name: stack.enter_context(
                    self._written(values[name], format_name, f"{name} of {label}", scratch, moved)
                )
                for name, format_name in formats.items()
            }
            return {name: store() for name, store in written.items()}

    @contextmanager
    def _written(
        self, value: Any, format_name: str, what: str, scratch: Path, moved: set[Path]
    ) -> Iterator[Callable[[], Artifact]]:
        """Write a value beside the objects; what is yielded makes it one.

        What lies in a file of the right form is not copied: such a file is added to `moved`.
        """
        file = file_of(value) if format_name == "npy" else None
        if format_name == "file":
            file = _own(value, scratch, moved, what)
        elif format_name == FOLDER:
            _in_scratch(value, scratch, "folder", what)
        elif file in moved:
            file = None
        elif file is not None and not _is_in(file, scratch):
            kept = (
                self._store.objects.keep(file) if _is_in(file, self._store.objects.root) else None
            )
            if kept is not None:
                yield lambda: Artifact(*kept, format_name, describe(value))
                return
            file = None
        with (
            explaining(what, self._store.objects.root, size_of(value)),
            self._store.objects.temporary(FORMATS[format_name].suffix) as temporary,
        ):
            if file is None:
                details = _write(value, format_name, what, temporary)
            else:
                moved.add(file)
                details = {"name": file.name} if format_name == "file" else describe(value)

            def store() -> Artifact:
                if file is not None:
                    take_over(file, temporary)
                return Artifact(*self._store.objects.add(temporary), format_name, details)

            yield store

    def _remember(self, record: Record) -> None:
        with _remembering:
            recent = _remembered.get((self._store.root, record.stage))
            if recent is not None:
                recent.add(record)

    def _recent(self, stage: str) -> _Recent:
        """Return a stage's newest records: looked for once a process, and what it made since."""
        with _remembering:
            recent = _remembered.get((self._store.root, stage))
        if recent is None or not recent.is_there(self._store):
            found = [*self._store.records.of_stage(stage, _MOST_TO_COMPARE)]
            recent = _Recent(len(found) < _MOST_TO_COMPARE)
            for record in reversed(found):
                recent.add(record)
            with _remembering:
                _remembered[self._store.root, stage] = recent
        return recent

    def _explain(self, key: StageKey, label: str) -> tuple[str, ...]:
        """Compare with the nearest of the newest records of the stage."""
        document = key.document()
        nearest: list[str] | None = None
        recent = self._recent(key.stage)
        for record in recent.of(label, self._store):
            reasons = differences(record.document, document)
            if nearest is None or len(reasons) < len(nearest):
                nearest = reasons
        if nearest:
            return tuple(nearest)
        if recent.is_all:
            return ("never run",)
        return (f"never run, as far as the newest {_MOST_TO_COMPARE} records of {key.stage} tell",)


class _Recent:
    """The newest records of a stage, by the names of its calls."""

    def __init__(self, is_all: bool) -> None:
        self.is_all = is_all
        self._records: dict[str, deque[Record]] = {}

    def add(self, record: Record) -> None:
        """Add one that is newer than the others."""
        of_label = self._records.setdefault(record.label, deque(maxlen=_MOST_OF_A_CALL))
        of_label.append(record)

    def of(self, label: str, store: Store) -> list[Record]:
        """Return those of a call that are there, newest first."""
        found = list(self._records.get(label, ()))
        return [record for record in reversed(found) if _is_there(store, record)]

    def is_there(self, store: Store) -> bool:
        """Tell whether the newest is still where it was: another store may lie there now."""
        newest = [of_label[-1] for of_label in self._records.values()]
        return bool(newest) and _is_there(store, newest[-1])


def _is_there(store: Store, record: Record) -> bool:
    return store.records.path(record.stage, record.key).exists()


def _write(value: Any, format_name: str, what: str, temporary: Path) -> dict[str, Any]:
    try:
        return write_artifact(format_name, temporary, value)
    except ArtifactError as error:
        message = f"{what}: {error}"
        raise ArtifactError(message) from error


def _own(file: Any, scratch: Path, moved: set[Path], what: str) -> Path:
    """Return a stage's own file, which is to be moved into the store; refuse any other."""
    path = _in_scratch(file, scratch, "file", what)
    if path.is_symlink() or not path.is_file() or path in moved:
        message = f"{what}: expected the path of a file of its own, found {path!r}"
        raise ArtifactError(message)
    return path


def _in_scratch(value: Any, scratch: Path, kind: str, what: str) -> Path:
    if not isinstance(value, Path) or not _is_in(value, scratch):
        message = f"{what}: expected a {kind} in the stage's scratch folder, found {value!r}"
        raise ArtifactError(message)
    return value


def _is_in(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _check_pins(outputs: Mapping[str, Artifact], pinned: Mapping[str, str], label: str) -> None:
    for name, sha256 in pinned.items():
        if outputs[name].sha256 != sha256:
            message = (
                f"{label}: expected {name} with the SHA-256 {sha256}, found {outputs[name].sha256}"
            )
            raise ArtifactError(message)
