"""What lies behind an fsspec URL: named bytes that several machines share.

fsspec and the URL's driver are imported when something is asked for, so that a store in a folder,
and a run that finds everything on this machine, do without them.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from digitflow.storage.errors import SharedStoreError
from digitflow.storage.remote.driver import PART_BYTES, open_driver, shown, unusable
from digitflow.storage.remote.listing import RemoteFile, last_part, listed
from digitflow.storage.remote.location import BUCKET_PROTOCOLS, S3_PROTOCOLS, identity
from digitflow.storage.within import Answer, NoAnswerError, within

# The drivers' own patience with a host that swallows packets is minutes, or has no end.
_SECONDS_TO_ANSWER = 30.0
# For each further request: listing many objects takes long. A transfer has as much again as its
# bytes take at a speed below that of any network that one would share a store through.
_SECONDS_FOR_A_REQUEST = 300.0
_SLOWEST_BYTES_PER_SECOND = 50_000.0
_PARALLEL_READS = 16
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def remote(url: str) -> Remote:
    """Return what lies behind a URL; one object a process, so that connections are kept."""
    return _remote(identity(url))


@cache
def _remote(identity: str) -> Remote:
    return Remote(identity.partition("\n")[0])


class Remote:
    """Named bytes behind an fsspec URL.

    Names are those of the store's layout, such as ``objects/ab/cdef…``, and are made of parts
    that were checked before. Every method raises `SharedStoreError` if the store cannot be used.

    Parameters
    ----------
    url
        Such as ``s3://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.protocol = url.partition("://")[0]
        self._connected = False
        self._lock = threading.Lock()
        self._opened: tuple[int, Any, str] | None = None

    def __str__(self) -> str:
        """Return the URL as people may see it, without a password."""
        return shown(self.url)

    def connect(self) -> None:
        """Make sure, once a process, that the store answers.

        Raises
        ------
        SharedStoreError
            If it does not, does not let us in, or has no such bucket or folder.
        """
        if self._connected:
            return
        try:
            within(_SECONDS_TO_ANSWER, self._probe)
        except NoAnswerError as error:
            raise unusable(self.url, str(error)) from error
        self._connected = True

    def look(self, name: str) -> RemoteFile | None:
        """Return what the store says of the file of this name, or None if there is none."""
        try:
            entry = self._ask(lambda system, root: system.info(f"{root}/{name}"))
        except FileNotFoundError:
            return None
        return listed(entry) if entry.get("type") == "file" else None

    def read(self, name: str, limit: int) -> tuple[RemoteFile, bytes] | None:
        """Return a small file and its bytes, or None if there is none.

        Raises
        ------
        ValueError
            If it is larger than `limit` bytes.
        """
        found = self.look(name)
        if found is None:
            return None
        if found.size > limit:
            message = f"expected at most {limit} bytes, found {found.size} in {self}/{name}"
            raise ValueError(message)
        data = self._cat(name)
        return None if data is None else (found, data)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of several small files; what has gone meanwhile is left out."""
        names = list(names)
        if not names:
            return {}
        with ThreadPoolExecutor(min(_PARALLEL_READS, len(names))) as pool:
            found = dict(zip(names, pool.map(self._cat, names), strict=True))
        return {name: data for name, data in found.items() if data is not None}

    def fetch(self, name: str, target: Path, size: int) -> None:
        """Download to a file of this machine.

        Parameters
        ----------
        name
            Of what is there.
        target
            The file, of nobody else's: where the store has not answered in time, it may still be
            written to.
        size
            Bytes that are expected: more of them may take longer.

        Raises
        ------
        FileNotFoundError
            If nothing has this name.
        OSError
            If this machine's disk is full.
        """

        def get(system: Any, root: str) -> OSError | None:
            try:
                system.get_file(f"{root}/{name}", str(target))
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return error
                raise
            return None

        full = self._ask(get, size)
        if full is not None:
            raise full

    def send(self, file: Path, name: str) -> None:
        """Upload a file, so that the whole of it has this name or nothing changes."""
        # s3fs reads a part at a time into memory: by default 50 MB, and 100 MB in one.
        options = {"chunksize": PART_BYTES} if self.protocol in S3_PROTOCOLS else {}
        size = file.stat().st_size
        self._put(name, lambda system, path: system.put_file(str(file), path, **options), size)

    def write(self, data: bytes, name: str) -> None:
        """Upload bytes, likewise."""
        self._put(name, lambda system, path: system.pipe_file(path, data))

    def files(self, folder: str) -> list[RemoteFile]:
        """Return the files that lie in a folder, in no order."""
        try:
            entries = self._ask(
                lambda system, root: system.ls(f"{root}/{folder}".rstrip("/"), detail=True)
            )
        except FileNotFoundError:
            return []
        return [listed(entry) for entry in entries if entry.get("type") == "file"]

    def tree(self, folder: str) -> dict[str, RemoteFile]:
        """Return the files in the folders of a folder, such as ``ab/cdef…``, by those names."""
        try:
            entries = self._ask(
                lambda system, root: system.find(f"{root}/{folder}", detail=True).values()
            )
        except FileNotFoundError:
            return {}
        return {
            "/".join(str(entry["name"]).split("/")[-2:]): listed(entry)
            for entry in entries
            if entry.get("type") == "file"
        }

    def folders(self, folder: str) -> list[str]:
        """Return the last parts of the names of the folders in a folder, in order."""
        try:
            entries = self._ask(lambda system, root: system.ls(f"{root}/{folder}", detail=True))
        except FileNotFoundError:
            return []
        return sorted(last_part(entry) for entry in entries if entry.get("type") == "directory")

    def delete(self, name: str) -> None:
        """Delete what has this name, if anything has."""
        with suppress(FileNotFoundError):
            self._ask(lambda system, root: system.rm_file(f"{root}/{name}"))

    def _cat(self, name: str) -> bytes | None:
        try:
            data: bytes = self._ask(lambda system, root: system.cat_file(f"{root}/{name}"))
        except FileNotFoundError:
            return None
        return data

    def _put(self, name: str, put: Callable[[Any, str], object], size: int = 0) -> None:
        def store(system: Any, root: str) -> None:
            if self.protocol in BUCKET_PROTOCOLS:
                put(system, f"{root}/{name}")
                return
            # Folders, SFTP and the like: a write under the final name could be seen half done.
            temporary = f"{root}/unfinished/{uuid.uuid4().hex}"
            for path in (temporary, f"{root}/{name}"):
                system.makedirs(path.rpartition("/")[0], exist_ok=True)
            try:
                put(system, temporary)
                system.mv(temporary, f"{root}/{name}")
            except BaseException:
                with suppress(Exception):  # the first error is the one to tell
                    system.rm_file(temporary)
                raise

        try:
            self._ask(store, size)
        except FileNotFoundError as error:  # the bucket or the folder has gone
            raise unusable(self.url, str(error)) from error

    def _probe(self) -> None:
        if self.protocol in BUCKET_PROTOCOLS:
            missing, kind = self._ask(self._missing_bucket), "bucket"
        elif self.protocol == "memory":
            return
        else:
            missing, kind = self._ask(self._missing_folder), "folder"
        if missing is not None:
            problem = f"the {kind} {missing} does not exist"
            raise unusable(self.url, problem)

    def _missing_bucket(self, system: Any, root: str) -> str | None:
        try:
            system.ls(f"{root}/runs")
        except FileNotFoundError:  # of an empty store, too
            bucket = root.partition("/")[0]
            return None if bucket and system.exists(bucket) else bucket or "(none)"
        return None

    def _missing_folder(self, system: Any, root: str) -> str | None:
        if not system.exists(root):
            parent = root.rpartition("/")[0]
            # Not made with all its parents: under a mount that is absent, that would be elsewhere.
            if not system.exists(parent):
                return parent
            system.makedirs(root, exist_ok=True)
        return None

    def _ask(self, call: Callable[[Any, str], Answer], size: int = 0) -> Answer:
        """Call with the driver and the store's path, for a transfer of so many bytes."""
        seconds = _SECONDS_FOR_A_REQUEST + size / _SLOWEST_BYTES_PER_SECOND
        try:
            return within(seconds, lambda: call(*self._system()))
        except (FileNotFoundError, SharedStoreError):
            raise
        except NoAnswerError as error:
            raise unusable(self.url, str(error)) from error
        except Exception as error:  # drivers raise errors of their own, of every kind
            problem = f"{error} ({type(error).__name__})"
            raise unusable(self.url, problem) from error

    def _system(self) -> tuple[Any, str]:
        with self._lock:
            # A connection does not survive a fork.
            if self._opened is None or self._opened[0] != os.getpid():
                self._opened = (os.getpid(), *open_driver(self.url))
            return self._opened[1:]
