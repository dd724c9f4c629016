"""Named bytes: the one interface through which everything that is stored is read and written.

A backend is a folder of this machine, or a place behind a URL. What differs between them, such as
how a write becomes visible whole, is decided here below and nowhere above.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from digitflow.storage.errors import StorageError

# Documents are some kilobytes; reading stops here whatever lies in their place.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that is stored. What a listing says is not to be trusted.

    Attributes
    ----------
    name
        Its whole name, such as ``runs/calm-owl.json``.
    size
        Bytes.
    modified
        When it was last written or used, in seconds since 1970.
    """

    name: str
    size: int
    modified: float


class TooLargeError(StorageError):
    """Something is larger than anything of its kind can be."""


class Backend(ABC):
    """Named bytes.

    Names are parts joined by slashes, such as ``objects/ab/cdef…``; `check_name` refuses those
    that could lead elsewhere. A write shows the whole of it, or nothing.
    """

    @abstractmethod
    def list(self, folder: str, depth: int = 1, after: str = "") -> list[Entry]:
        """Return what lies so many levels below a folder, in order of its names.

        Parameters
        ----------
        folder, depth
            Where.
        after
            A whole name: only what comes after it is returned, and asked for.

        Raises
        ------
        StoreUnusableError
            If something else than a folder lies there, or it cannot be read: that is not the same
            as a folder that is not there yet, which is empty.
        """

    def some(self, folder: str, depth: int, most: int) -> Sequence[Entry]:
        """Return what `list` would, or where that takes many requests about so many of it."""
        return self.list(folder, depth)

    def names(self, folder: str, depth: int = 1) -> Iterable[str]:
        """Return the names of what `list` would return, in any order; raises as `list`."""
        return (entry.name for entry in self.list(folder, depth))

    def folders(self, folder: str) -> Iterable[str]:
        """Return the names of the folders that lie in a folder; none where there are no folders."""
        return ()

    def stamp(self, folder: str) -> str | None:
        """Return what is another text once anything in it was added, replaced or removed.

        None if that is not known without a look at all of it.
        """
        return None

    @abstractmethod
    def stat(self, name: str) -> Entry | None:
        """Return what is known of something without reading it, or None if it is not there."""

    @abstractmethod
    def fetch(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> tuple[Entry, bytes]:
        """Return something small: what is known of it, and its bytes.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        TooLargeError
            If it is larger than `limit` bytes.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write bytes, in place of what has this name."""

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write bytes if nothing has this name; of several at once, one succeeds.

        Returns
        -------
        bool
            Whether they were written.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete what has this name, if anything has."""

    @abstractmethod
    def upload(self, file: Path, name: str) -> None:
        """Write a copy of a file of this machine, however large."""

    @abstractmethod
    def download(self, name: str, file: Path, size: int) -> None:
        """Copy something to a file of this machine, however large.

        Parameters
        ----------
        name
            What to copy.
        file
            Where to, a file of nobody else's: it may be left half written.
        size
            Bytes that are expected: more of them may take longer.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        OSError
            If this machine's disk is full.
        """

    @abstractmethod
    def digest(self, name: str) -> str:
        """Return the SHA-256 of the bytes of something, however large.

        Raises
        ------
        OSError
            If it is not there (`FileNotFoundError`), or cannot be read.
        """

    def blocked(
        self, folder: str, is_folder: Callable[[str], object] = lambda name: False
    ) -> Iterator[tuple[str, str]]:
        """Yield what lies in the place of a folder and keeps anybody from listing it.

        Parameters
        ----------
        folder
            The folder.
        is_folder
            Tells of a name in it whether that must be a folder, too.

        Yields
        ------
        name, problem
            Nothing, where there are no folders.
        """
        yield from ()

    def clear_way(self, name: str) -> str | None:
        """Move away what lies in the place of a folder above `name`; return where it lies now."""
        return None

    def read(self, name: str) -> bytes:
        """Return the bytes of something small; raises as `fetch`."""
        return self.fetch(name)[1]

    def fetch_many(self, names: Iterable[str]) -> Iterator[tuple[Entry, bytes]]:
        """Yield several small things, in order; what has gone, or cannot be read, is left out."""
        for name in names:
            with suppress(OSError, TooLargeError):
                yield self.fetch(name)


def check_name(name: str) -> str:
    """Return a name that stays below the backend's place.

    Raises
    ------
    StorageError
        If it has empty parts, or parts that lead elsewhere.
    """
    if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in name.split("/")):
        message = (
            f"expected the name of something below the store, parts joined by slashes and none of "
            f"them empty, '.' or '..', found {name!r}"
        )
        raise StorageError(message)
    return name
