"""Objects that machines share: fetched and verified where they are missing, sent if new."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from digitflow.storage.atomic import commit_file, remove
from digitflow.storage.digests import digest_file, is_sha256, short
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.locks import patiently
from digitflow.storage.objects import ObjectStore
from digitflow.storage.os_errors import explaining
from digitflow.storage.remote.listing import RemoteFile
from digitflow.storage.remote.remote import Remote
from digitflow.storage.remote.sync_state import RENEWAL_SECONDS

_log = logging.getLogger(__name__)


class SharedObjects(ObjectStore):
    """Objects of this machine, fetched from a shared store where they are missing.

    Parameters
    ----------
    root
        Folder of the objects on this machine.
    remote
        The shared store.
    locks
        Folder of the locks that let one process of this machine fetch an object.
    settle
        As for `ObjectStore`.
    """

    def __init__(
        self, root: Path, remote: Remote, locks: Path, settle: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(root, settle)
        self.remote = remote
        self._locks = locks
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
            _log.warning("%s; fetching it again from %s", error, self.remote)
        self._locks.mkdir(parents=True, exist_ok=True)
        with patiently(self._locks / f"fetch-{sha256}.lock", f"object {short(sha256)}…"):
            try:
                return super().verify(sha256, size)
            except (ObjectMissingError, ObjectDamagedError):
                return self._fetch(sha256, size)

    def starting_with(self, prefix: str) -> set[str]:
        """Return the names that start so, of this machine's objects and of the shared ones."""
        folder = prefix[:2]
        there = self.remote.files(f"objects/{folder}") if len(folder) == 2 else []
        names = {folder + each.name for each in there}
        found = {name for name in names if is_sha256(name) and name.startswith(prefix)}
        return found | super().starting_with(prefix)

    def send(self, artifact: Artifact, *, renew: bool = True) -> None:
        """Upload an object, unless the shared store has one of this name and size.

        Parameters
        ----------
        artifact
            The object.
        renew
            Upload also one that has been there for long: a sweep of the shared store that
            finds nothing that refers to it would take it, before the record is there that does.

        Raises
        ------
        ObjectMissingError, ObjectDamagedError
            If this machine does not have it sound.
        """
        name = object_name(artifact.sha256)
        found = self.remote.look(name)
        if (
            found is None
            or found.size != artifact.size
            or self._seen_damage
            or (renew and _is_old(found))
        ):
            self.remote.send(super().verify(artifact.sha256, artifact.size), name)

    def _fetch(self, sha256: str, size: int | None) -> Path:
        target = self.path(sha256)
        name = object_name(sha256)
        with explaining(f"object {short(sha256)}…", self.root, size), self.temporary() as file:
            try:
                found = self.remote.look(name)
                if found is None:
                    raise FileNotFoundError(name)
                if size is not None and found.size != size:
                    problem = f"expected {size} bytes, found {found.size} in {self.remote}/{name}"
                    raise self._damaged(sha256, problem)
                self.remote.fetch(name, file, found.size)
            except FileNotFoundError:
                message = (
                    f"object {short(sha256)}… is missing: expected it at {target} or "
                    f"at {self.remote}/{name}"
                )
                raise ObjectMissingError(message) from None
            actual = digest_file(file)
            if actual != sha256:
                problem = f"the bytes of {self.remote}/{name} hash to {short(actual)}…"
                raise self._damaged(sha256, problem)
            file.chmod(0o444)
            if target.is_dir():
                remove(target)
            commit_file(file, target)
        return target

    def _damaged(self, sha256: str, problem: str) -> ObjectDamagedError:
        self._seen_damage = True
        message = f"object {short(sha256)}… is damaged: {problem}"
        return ObjectDamagedError(message)


def _is_old(found: RemoteFile) -> bool:
    # Where the driver does not say when something was written, no sweep takes it.
    return found.modified is not None and time.time() - found.modified > RENEWAL_SECONDS


def object_name(sha256: str) -> str:
    """Return where an object lies in a shared store; `sha256` must be a digest."""
    return f"objects/{sha256[:2]}/{sha256[2:]}"
