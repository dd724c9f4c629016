"""Content-addressed store: bytes lie under their own SHA-256 and are checked against it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from digitflow.storage.backends.atomic import commit_file, temporary_file
from digitflow.storage.backends.base import Backend, Entry
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.safe_open import open_regular
from digitflow.storage.digests import digest_file, is_sha256, short
from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError, StorageError

_DIGITS_OF_A_FOLDER = 2


def object_name(sha256: str) -> str:
    """Return where an object lies below a store's root.

    Raises
    ------
    StorageError
        If `sha256` is not a digest: a name from a record must never become another path.
    """
    if not is_sha256(sha256):
        message = f"expected a SHA-256 of 64 hexadecimal digits, found {sha256!r}"
        raise StorageError(message)
    return f"objects/{sha256[:2]}/{sha256[2:]}"


def object_entries(backend: Backend) -> dict[str, Entry]:
    """Return what a backend holds of objects, by their digests and in order."""
    entries = {
        entry.name.removeprefix("objects/").replace("/", "", 1): entry
        for entry in backend.list("objects", depth=2)
    }
    return {
        sha256: entry
        for sha256, entry in entries.items()
        if is_sha256(sha256) and object_name(sha256) == entry.name
    }


class ObjectStore:
    """Files named by their digest, fanned out over 256 folders.

    Parameters
    ----------
    root
        Folder ``objects``. It is created when the first object is written.
    settle
        Called before an object counts as missing: returns when none is aside for a moment.
    """

    def __init__(self, root: Path, settle: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._settle = settle

    def path(self, sha256: str) -> Path:
        """Return where the object lies or would lie; `StorageError` if it is no digest."""
        return self.root.parent / object_name(sha256)

    def temporary(self, suffix: str = "") -> AbstractContextManager[Path]:
        """Return a temporary file on the store's file system, to be filled and then added."""
        return temporary_file(self.root / "tmp", suffix)

    def add(self, file: Path) -> tuple[str, int]:
        """Move a finished file into the store.

        An object that is already there is kept only if its bytes are right: a damaged one is
        replaced, or one flipped bit would fail every later run.

        Returns
        -------
        sha256, size
            The object's name and its size in bytes.
        """
        os.utime(file)  # it may be an old file; as an object it is new
        sha256 = digest_file(file)
        size = file.stat().st_size
        target = self.path(sha256)
        if not (self.holds_here(sha256) and self._still_there(sha256)):
            # Read-only guards against accidents; nothing trusts it as a proof.
            file.chmod(0o444)
            commit_file(file, target)
        return sha256, size

    def put_back(self, file: Path) -> str:
        """Move a finished file in as an object that was lost, for all who share the store.

        Returns
        -------
        str
            The object's name.
        """
        return self.add(file)[0]

    def keep(self, file: Path) -> tuple[str, int] | None:
        """Note that a file of this store is what somebody would add.

        Returns
        -------
        sha256, size
            As of `add`, or None if the file is no sound object.
        """
        sha256 = file.parent.name + file.name
        if not is_sha256(sha256) or not self.holds_here(sha256) or not self._still_there(sha256):
            return None
        return sha256, self.path(sha256).stat().st_size

    def mark_used(self, sha256: str) -> None:
        """Note that an object is used now, so that no sweep takes it for an old one.

        Raises
        ------
        FileNotFoundError
            If it is no longer there.
        """
        path = self.path(sha256)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._settle()
            os.utime(path)

    def _still_there(self, sha256: str) -> bool:
        try:
            self.mark_used(sha256)
        except FileNotFoundError:  # swept just now
            return False
        return True

    def holds(self, sha256: str) -> bool:
        """Tell whether the object is there and its bytes are right."""
        try:
            self.verify(sha256)
        except (ObjectMissingError, ObjectDamagedError):
            return False
        return True

    def holds_here(self, sha256: str) -> bool:
        """Tell whether this machine has the object, and its bytes are right."""
        try:
            ObjectStore.verify(self, sha256)
        except (ObjectMissingError, ObjectDamagedError):
            return False
        return True

    def starting_with(self, prefix: str) -> set[str]:
        """Return the names that start so."""
        place = LocalBackend(self.root.parent)
        if len(prefix) >= _DIGITS_OF_A_FOLDER:  # one folder holds them all
            folder = prefix[:_DIGITS_OF_A_FOLDER]
            listed = place.list(f"objects/{folder}")
            names = {folder + each.name.rpartition("/")[2] for each in listed}
            return {name for name in names if is_sha256(name) and name.startswith(prefix)}
        return {sha256 for sha256 in self if sha256.startswith(prefix)}

    def verify(self, sha256: str, size: int | None = None) -> Path:
        """Hash the object again and return its path.

        Parameters
        ----------
        sha256
            The object's name.
        size
            Its size in bytes, where known: a wrong size is noticed without reading.

        Raises
        ------
        ObjectMissingError
            If there is no such object.
        ObjectDamagedError
            If its bytes are not those that its name promises.
        """
        try:
            return self._verify(sha256, size)
        except ObjectMissingError:
            self._settle()
            return self._verify(sha256, size)

    def _verify(self, sha256: str, size: int | None) -> Path:
        path = self.path(sha256)
        try:
            with open_regular(path) as file:
                found = os.fstat(file.fileno()).st_size
                if size is not None and found != size:
                    message = (
                        f"object {short(sha256)}… is damaged: expected {size} bytes, "
                        f"found {found} in {path}"
                    )
                    raise ObjectDamagedError(message)
                actual = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotADirectoryError):
            message = f"object {short(sha256)}… is missing: expected it at {path}"
            raise ObjectMissingError(message) from None
        except OSError as error:  # unreadable medium, no permission, or no regular file
            message = f"object {short(sha256)}… is damaged: {path} cannot be read ({error})"
            raise ObjectDamagedError(message) from error
        if actual != sha256:
            message = (
                f"object {short(sha256)}… is damaged: the bytes of {path} hash to {short(actual)}…"
            )
            raise ObjectDamagedError(message)
        return path

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of all objects, in order."""
        yield from object_entries(LocalBackend(self.root.parent))
