"""Objects, records and runs that machines share: a folder of this machine before a shared store.

Reading: what is not here, or is damaged here, is fetched, verified and kept. Writing: first here,
then there, a record after everything that it names, so that nothing that can be seen refers to
something absent. A file ``….sent`` beside a record says that the shared store has it; what
lacks one, because a run was killed or the network failed, is sent when it is next used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from digitflow.storage.backends.atomic import commit_file, make_folder
from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES, Backend, Entry
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.locks import patiently
from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.backends.remote import Remote, remote
from digitflow.storage.digests import digest_file, is_sha256, short
from digitflow.storage.documents import Documents, Kind, LocalDocuments, T
from digitflow.storage.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    RecordDamagedError,
    SharedStoreError,
)
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.runs import RUNS
from digitflow.storage.objects import ObjectStore, object_name
from digitflow.storage.records import RECORDS
from digitflow.storage.sync_state import (
    is_old,
    is_sent,
    is_to_be_renewed,
    mark_sent,
    mark_unsent,
    sending,
)

_log = logging.getLogger(__name__)

# So many of a stage's newest records are fetched to explain a miss, and to be shown.
_MOST_RECORDS = 20
# So many names are looked through for them, in five requests: of more records, these are any.
_MOST_NAMES = 5_000


class SharedStore:
    """A store behind a URL, and what this machine keeps of it.

    Parameters
    ----------
    local
        Folder of this machine.
    url
        Of the shared store.
    settle
        As for `ObjectStore`.

    Attributes
    ----------
    remote, objects, records, runs
        What lies there, and the three kinds of it that both hold.
    """

    def __init__(self, local: LocalBackend, url: str, settle: Callable[[], None]) -> None:
        self.remote: Remote = remote(url)
        self.objects = SharedObjects(local, self.remote, settle)
        self.records = SharedDocuments(
            RECORDS,
            local,
            self.remote,
            send_before=lambda record, renew: self.objects.send_all(record.outputs.values(), renew),
        )
        self.runs = SharedDocuments(RUNS, local, self.remote)

    def connect(self) -> None:
        """Make sure that the shared store answers, and send it what an earlier run could not.

        Raises
        ------
        SharedStoreError
            If it cannot be used.
        """
        self.remote.connect()
        self.records.send_unsent()
        self.runs.send_unsent()


class SharedDocuments(LocalDocuments[T]):
    """Documents of this machine, shared with others: read here first, written here and then there.

    Parameters
    ----------
    kind
        Their kind.
    local
        Folder of this machine.
    there
        The shared store.
    send_before
        Sends what a document names, given whether what has been there for long is sent again.
    """

    def __init__(
        self,
        kind: Kind[T],
        local: LocalBackend,
        there: Backend,
        send_before: Callable[[T, bool], None] = lambda document, renew: None,
    ) -> None:
        super().__init__(kind, local)
        self._there = Documents(kind, there)
        self._send_before = send_before

    def load(self, name: str) -> T:
        """Read a document, fetched if this machine has none that is sound."""
        damage: RecordDamagedError | None = None
        try:
            return super().load(name)
        except FileNotFoundError:
            pass
        except RecordDamagedError as error:
            damage = error
        try:
            document, entry, data = self._there.fetch(name)
        except FileNotFoundError:
            if damage is not None:
                raise damage from None
            raise
        if damage is not None:
            _log.warning("%s; fetched again from %s", damage, self._there.backend)
        self._keep(name, entry, data)
        return document

    def save(self, document: T, name: str | None = None) -> str:
        """Write a document here, then send what it names, and then the document."""
        name = self._name(document, name)
        mark_unsent(self.path(name))
        super().save(document, name)
        self._send(name, document)
        return name

    def mark_used(self, document: T) -> None:
        """Note that a document was served now, here and, now and then, in the shared store."""
        super().mark_used(document)
        name = self._name(document, None)
        if not is_sent(self.path(name)):
            self._send(name, document)
        elif is_to_be_renewed(self.path(name)):
            try:
                self._renew(name, document)
            except SharedStoreError as error:  # a hit needs no writing, and some may only read
                title = self.kind.title(name)
                _log.warning("%s is served, but not noted as used: %s", title, error)

    def newest_first(self, within: str = "", most: int | None = None) -> Iterator[T]:
        """Iterate over the documents of this machine and of others, newest first."""
        self._gather(within)
        yield from super().newest_first(within, most)

    def everywhere(self) -> list[str]:
        """Return the names of the documents here or there, in order."""
        return sorted(self._there.names() | self.names())

    def send_unsent(self) -> None:
        """Send what an earlier run could not.

        Raises
        ------
        SharedStoreError
            If the shared store cannot be used. What this machine has stays.
        """
        for name in self.entries():
            if is_sent(self.path(name)):
                continue
            try:
                self._send(name, super().load(name))
            except FileNotFoundError:
                continue
            except (RecordDamagedError, ObjectMissingError, ObjectDamagedError) as error:
                # Whoever asks for that one is told, and computes it again.
                _log.info("not sent to %s: %s", self._there.backend, error)

    def naming(self, digest: str) -> Iterator[T]:
        """Iterate over the documents of this machine, and of others, that name a digest."""
        folders = {name.rpartition("/")[0] for name in self._there.names()}
        for folder in sorted(folders):
            self._gather(folder)
        yield from super().naming(digest)

    def _gather(self, within: str) -> None:
        """Fetch what other machines have; of a folder the newest."""
        there = self._there.some(within, _MOST_NAMES) if within else self._there.entries()
        newest = sorted(there, key=lambda name: there[name].modified, reverse=True)
        wanted = {
            self.kind.file(name): name
            for name in newest[: _MOST_RECORDS if within else None]
            if (there[name].size <= MAX_DOCUMENT_BYTES or self.kind.is_copied)
            and not self.path(name).exists()
        }
        left = set(wanted.values())
        for entry, data in self._there.backend.fetch_many(wanted):
            name = wanted[entry.name]
            try:
                self._there.parse(name, data)
            except RecordDamagedError:
                continue  # said to whoever asks for that one
            self._keep_unused(name, entry, data)
            left.discard(name)
        for name in sorted(left) if self.kind.is_copied else ():
            with suppress(FileNotFoundError, RecordDamagedError):
                _, entry, data = self._there.fetch(name)  # from its copy
                self._keep_unused(name, entry, data)

    def _keep_unused(self, name: str, entry: Entry, data: bytes) -> None:
        self._keep(name, entry, data)
        # Nobody has used it on this machine yet.
        os.utime(self.path(name), (entry.modified, entry.modified))

    def _send(self, name: str, document: T) -> None:
        with sending(self.path(name), self.kind.title(name)):
            self._send_before(document, True)
            self._write_there(name)

    def _renew(self, name: str, document: T) -> None:
        """Write a document there again, so that it counts as used, and what it lacks there."""
        # First, because it says of the objects that they are in use.
        self._write_there(name)
        self._send_before(document, False)
        mark_sent(self.path(name))

    def _write_there(self, name: str) -> None:
        data = self.backend.read(self.kind.file(name))
        if self.kind.is_copied:
            self._there.backend.write(self.kind.copy(name), data)
        self._there.backend.write(self.kind.file(name), data)

    def _keep(self, name: str, entry: Entry, data: bytes) -> None:
        if self.kind.is_copied:
            self.backend.write(self.kind.copy(name), data)
        self.backend.write(self.kind.file(name), data)
        mark_sent(self.path(name), entry.modified)


class SharedObjects(ObjectStore):
    """Objects of this machine, fetched from a shared store where they are missing, sent if new.

    Parameters
    ----------
    local
        Folder of this machine. Locks in it let one process of the machine fetch an object.
    there
        The shared store.
    settle
        As for `ObjectStore`.
    """

    def __init__(self, local: LocalBackend, there: Backend, settle: Callable[[], None]) -> None:
        super().__init__(local.path("objects"), settle)
        self._there = there
        self._locks = local.path("locks")
        # From then on nothing that lies there is trusted for its size alone.
        self._seen_damage = False

    def verify(self, sha256: str, size: int | None = None) -> Path:
        """Hash the object again, fetched from the shared store if need be; return its path.

        Raises
        ------
        ObjectMissingError, ObjectDamagedError
            If neither this machine nor the shared store has it sound.
        SharedStoreError
            If the shared store cannot be used.
        """
        try:
            return super().verify(sha256, size)
        except ObjectMissingError:
            pass
        except ObjectDamagedError as error:
            _log.warning("%s; fetching it again from %s", error, self._there)
        make_folder(self._locks)
        with patiently(self._locks / f"fetch-{sha256}.lock", f"object {short(sha256)}…"):
            try:
                return super().verify(sha256, size)
            except (ObjectMissingError, ObjectDamagedError):
                return self._fetch(sha256, size)

    def starting_with(self, prefix: str) -> set[str]:
        """Return the names that start so, of this machine's objects and of the shared ones."""
        folder = prefix[:2]
        there = self._there.list(f"objects/{folder}") if len(folder) == 2 else []
        names = {folder + each.name.rpartition("/")[2] for each in there}
        found = {name for name in names if is_sha256(name) and name.startswith(prefix)}
        return found | super().starting_with(prefix)

    def send_all(self, artifacts: Collection[Artifact], renew: bool = True) -> None:
        """Upload objects, unless the shared store has those of their names and sizes.

        Parameters
        ----------
        artifacts
            The objects.
        renew
            Upload also those that have been there for long: a sweep of the shared store that
            finds nothing that refers to them would take them, before the record is there that
            does.

        Raises
        ------
        ObjectMissingError, ObjectDamagedError
            If this machine does not have one sound.
        """
        for artifact in artifacts:
            name = object_name(artifact.sha256)
            found = self._there.stat(name)
            if (
                found is None
                or found.size != artifact.size
                or self._seen_damage
                or (renew and is_old(found.modified))
            ):
                self._there.upload(super().verify(artifact.sha256, artifact.size), name)

    def put_back(self, file: Path) -> str:
        """Move a finished file in as an object that was lost, here and in the shared store."""
        sha256 = super().put_back(file)
        self.send_again(sha256)
        return sha256

    def send_again(self, sha256: str) -> None:
        """Upload an object that this machine has, whatever lies there.

        Raises
        ------
        ObjectMissingError, ObjectDamagedError
            If this machine does not have it sound.
        """
        self._there.upload(super().verify(sha256), object_name(sha256))

    def _fetch(self, sha256: str, size: int | None) -> Path:
        target = self.path(sha256)
        name = object_name(sha256)
        with explaining(f"object {short(sha256)}…", self.root, size), self.temporary() as file:
            try:
                found = self._there.stat(name)
                if found is None:
                    raise FileNotFoundError(name)
                if size is not None and found.size != size:
                    problem = f"expected {size} bytes, found {found.size} in {self._there}/{name}"
                    raise self._damaged(sha256, problem)
                self._there.download(name, file, found.size)
            except FileNotFoundError:
                message = (
                    f"object {short(sha256)}… is missing: expected it at {target} or "
                    f"at {self._there}/{name}"
                )
                raise ObjectMissingError(message) from None
            actual = digest_file(file)
            if actual != sha256:
                problem = f"the bytes of {self._there}/{name} hash to {short(actual)}…"
                raise self._damaged(sha256, problem)
            file.chmod(0o444)
            commit_file(file, target)
        return target

    def _damaged(self, sha256: str, problem: str) -> ObjectDamagedError:
        self._seen_damage = True
        message = f"object {short(sha256)}… is damaged: {problem}"
        return ObjectDamagedError(message)
