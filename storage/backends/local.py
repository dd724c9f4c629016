"""A folder of this machine, or of a drive that it has mounted."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias, TypeVar

from digitflow.storage.backends.atomic import (
    commit_file,
    make_folder,
    remove,
    sync_folder,
    temporary_file,
    write_bytes,
)
from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES, Backend, Entry, TooLargeError
from digitflow.storage.backends.base import check_name as checked
from digitflow.storage.backends.locks import briefly
from digitflow.storage.backends.safe_open import open_regular
from digitflow.storage.errors import StoreUnusableError

# What file systems without hard links say.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
# Seconds: coarser than any file system's times.
_JUST_NOW = 2.0

T = TypeVar("T")
_Found: TypeAlias = "os.DirEntry[str]"


class LocalBackend(Backend):
    """Files in a folder: written beside their place, synchronised, and renamed.

    Parameters
    ----------
    root
        The folder; created when something is written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        """Return the folder."""
        return str(self.root)

    def path(self, name: str) -> Path:
        """Return where something lies or would lie."""
        return self.root / checked(name)

    def list(self, folder: str, depth: int = 1, after: str = "") -> list[Entry]:
        """Return what lies there: files, and whatever lies in a file's place."""

        def told(name: str, each: _Found) -> Entry | None:
            return _entry(name, each) if name > after else None

        found = filter(None, self._below(folder, depth, told))
        return sorted(found, key=lambda entry: entry.name)

    def names(self, folder: str, depth: int = 1) -> Iterator[str]:
        """Yield the names of what lies there, without a look at each."""
        return self._below(folder, depth, lambda name, _: name)

    def folders(self, folder: str) -> Iterator[str]:
        """Yield the names of the folders that lie in a folder."""
        return filter(None, self._below(folder, 1, _folder))

    def stamp(self, folder: str) -> str | None:
        """Return when a folder was changed, unless that was just now.

        Everything is written beside its place and renamed, which changes the folder's time. A
        second change at the same tick of the clock would not.
        """
        try:
            found = (self.root / folder).stat()
        except OSError:  # whoever lists it says what is wrong
            return None
        if found.st_mtime > time.time() - _JUST_NOW:
            return None
        return f"{found.st_ino}-{found.st_mtime_ns}"

    def stat(self, name: str) -> Entry | None:
        """Return what is known of something, or None; links are not followed."""
        try:
            found = self.path(name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(name, found.st_size, found.st_mtime)

    def fetch(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> tuple[Entry, bytes]:
        """Return a small file; `OSError` if no regular file lies there."""
        with open_regular(self.path(name)) as file:
            status = os.fstat(file.fileno())
            # As much as there is: a buffer of the limit's size takes longer to get than to fill.
            data = file.read(min(status.st_size, limit) + 1)
        if len(data) > limit:
            message = f"it is larger than {limit} bytes"
            raise TooLargeError(message)
        return Entry(name, len(data), status.st_mtime), data

    def write(self, name: str, data: bytes) -> None:
        """Write bytes, whole or not at all."""
        write_bytes(self.path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write bytes if nothing lies there."""
        path = self.path(name)
        with temporary_file(path.parent) as temporary:
            write_bytes(temporary, data)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                with briefly(path.parent / ".create.lock", f"what is created beside {name}"):
                    if os.path.lexists(path):
                        return False
                    commit_file(temporary, path)
            sync_folder(path.parent)
        return True

    def delete(self, name: str) -> None:
        """Delete what lies there, a folder in a file's place as well."""
        remove(self.path(name))

    def upload(self, file: Path, name: str) -> None:
        """Copy a file to its place, whole or not at all."""
        path = self.path(name)
        with temporary_file(path.parent) as temporary:
            shutil.copyfile(file, temporary)
            temporary.chmod(0o644)
            commit_file(temporary, path)

    def download(self, name: str, file: Path, size: int) -> None:
        """Copy what lies there to another file."""
        with open_regular(self.path(name)) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        with open_regular(self.path(name)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def touch(self, name: str) -> None:
        """Note that a file is used now: its time of change is that of its last use."""
        os.utime(self.path(name))

    def blocked(
        self, folder: str, is_folder: Callable[[str], object] = lambda name: False
    ) -> Iterator[tuple[str, str]]:
        """Yield what lies in the place of a folder, and folders that cannot be listed."""
        try:
            with os.scandir(self.root / folder) as found:
                below = sorted(f"{folder}/{each.name}" for each in found if is_folder(each.name))
        except OSError as error:
            problem = self._problem(folder, error)
            if problem is not None:
                yield folder, problem
            return
        for name in below:
            if (self.root / name).is_symlink() or not (self.root / name).is_dir():
                yield name, f"expected a folder, found something else: {self.root / name}"
            else:
                yield from self.blocked(name)

    def clear_way(self, name: str) -> str | None:
        """Move what lies in the place of a folder above `name` to ``damaged/``."""
        for folder in reversed(self.path(name).relative_to(self.root).parents[:-1]):
            path = self.root / folder
            if os.path.lexists(path) and not path.is_dir():
                aside = self.root / "damaged" / f"{time.time_ns()}-{path.name}"
                make_folder(aside.parent)
                path.rename(aside)
                return str(aside.relative_to(self.root))
        return None

    def _problem(self, folder: str, error: OSError) -> str | None:
        """Say why a folder cannot be listed, or None if there simply is none."""
        for place in [self.root / folder, *(self.root / folder).parents]:
            if os.path.lexists(place) and not place.is_dir():
                found = "a link that leads nowhere" if place.is_symlink() else "a file"
                return (
                    f"expected a folder, found {found}: {place}. digitflow verify says what that "
                    "means for the store"
                )
            if place == self.root:
                break
        if isinstance(error, FileNotFoundError):
            return None
        reason = (error.strerror or str(error)).lower()
        return f"{self.root / folder} cannot be listed: {reason}. Check its owner and its medium"

    def _below(self, folder: str, depth: int, told: Callable[[str, _Found], T]) -> Iterator[T]:
        """Yield what is told of each thing that lies so many levels below a folder."""
        try:
            with os.scandir(self.root / folder) as found:
                for each in found:
                    name = f"{folder}/{each.name}".lstrip("/")
                    if depth == 1:
                        yield told(name, each)
                    elif each.is_dir(follow_symlinks=False):
                        yield from self._below(name, depth - 1, told)
        except OSError as error:
            problem = self._problem(folder, error)
            if problem is not None:
                raise StoreUnusableError(problem) from error


def _entry(name: str, found: _Found) -> Entry | None:
    try:
        status = found.stat(follow_symlinks=False)
    except FileNotFoundError:  # gone meanwhile
        return None
    return Entry(name, status.st_size, status.st_mtime)


def _folder(_: str, found: _Found) -> str:
    return found.name if found.is_dir(follow_symlinks=False) else ""
