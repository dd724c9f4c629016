"""What lies behind a URL that several machines share: asked with deadlines, and errors that help.

obstore is imported when something is asked for, so that a store in a folder, and a run that finds
everything on this machine, do without it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from digitflow.storage.backends.base import MAX_DOCUMENT_BYTES, Backend, Entry, TooLargeError
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.locks import SECONDS_BETWEEN_SENTENCES
from digitflow.storage.backends.safe_open import NotRegularError
from digitflow.storage.backends.within import NoAnswerError, within
from digitflow.storage.digests import digest_bytes, short
from digitflow.storage.errors import SharedStoreError, StorageError
from digitflow.storage.visible import redacted, shown_url

# obstore's own patience with a host that swallows packets is too long for a start.
_SECONDS_TO_ANSWER = 30.0
# For each further request: listing many objects takes long. A transfer has as much again as its
# bytes take at a speed below that of any network that one would share a store through.
_SECONDS_FOR_A_REQUEST = 300.0
_SLOWEST_BYTES_PER_SECOND = 50_000.0
# Before it is said that a request is waited for, and before each next time.
_SECONDS_UNTIL_SAID = 10.0
_PARALLEL_READS = 16
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_S3 = ("s3", "s3a")
_BUCKETS = (*_S3, "gs", "az", "azure", "adl", "abfs", "abfss")
_OF_ANOTHER_REGION = (
    "incorrectly configured region",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraint",
)
_MOUNTED = ("sftp", "ssh", "smb", "webdav", "ftp")

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def remote(url: str) -> Remote:
    """Return what lies behind a URL; one object a process, so that connections are kept."""
    return _remote(identity(url))


@cache
def _remote(identity: str) -> Remote:
    return Remote(identity.partition("\n")[0])


class Remote(Backend):
    """Named bytes behind a URL. Every method raises `SharedStoreError` if it cannot be used.

    Parameters
    ----------
    url
        Such as ``s3://bucket/prefix`` or ``file:///mnt/team/store``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._scheme = urlsplit(url).scheme
        self._connected = False
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._opened: Backend | None = None

    def __str__(self) -> str:
        """Return the URL as people may see it, without a password."""
        return shown_url(self.url)

    def connect(self) -> None:
        """Make sure, once a process, that the store answers.

        Raises
        ------
        SharedStoreError
            If it does not, does not let us in, or has no such bucket or folder.
        """
        with self._connecting:
            if self._connected:
                return
            try:
                within(_SECONDS_TO_ANSWER, self._probe)
            except NoAnswerError as error:
                raise self._unusable(str(error)) from error
            self._connected = True

    def list(self, folder: str, depth: int = 1, after: str = "") -> list[Entry]:
        """Return what lies there."""
        return self._ask(lambda place: place.list(folder, depth, after))

    def some(self, folder: str, depth: int, most: int) -> Sequence[Entry]:
        """Return some of what lies there."""
        return self._ask(lambda place: place.some(folder, depth, most))

    def stat(self, name: str) -> Entry | None:
        """Return what is known of something, or None."""
        return self._ask(lambda place: place.stat(name))

    def fetch(self, name: str, limit: int = MAX_DOCUMENT_BYTES) -> tuple[Entry, bytes]:
        """Return something small."""
        return self._ask(lambda place: place.fetch(name, limit))

    def fetch_many(self, names: Iterable[str]) -> Iterator[tuple[Entry, bytes]]:
        """Yield several small things, in order and several at a time."""

        def fetch(name: str) -> tuple[Entry, bytes] | None:
            try:
                return self.fetch(name)
            except (FileNotFoundError, NotRegularError, TooLargeError):
                return None

        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            yield from filter(None, pool.map(fetch, names))

    def write(self, name: str, data: bytes) -> None:
        """Write bytes."""
        self._change(lambda place: place.write(name, data))

    def create(self, name: str, data: bytes) -> bool:
        """Write bytes if nothing has this name."""
        return self._change(lambda place: place.create(name, data))

    def delete(self, name: str) -> None:
        """Delete what has this name, if anything has."""
        self._ask(lambda place: place.delete(name))

    def upload(self, file: Path, name: str) -> None:
        """Write a copy of a file of this machine."""
        self._change(lambda place: place.upload(file, name), file.stat().st_size)

    def download(self, name: str, file: Path, size: int) -> None:
        """Copy something to a file of this machine.

        Where the store has not answered in time, the file may still be written to.
        """

        def get(place: Backend) -> OSError | None:
            try:
                place.download(name, file, size)
            except OSError as error:
                if error.errno in _NO_ROOM:
                    return error
                raise
            return None

        full = self._ask(get, size)
        if full is not None:
            raise full

    def digest(self, name: str) -> str:
        """Return the SHA-256 of the bytes of something."""
        found = self.stat(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self}/{name}")
        return self._ask(lambda place: place.digest(name), found.size)

    def _probe(self) -> None:
        if self._scheme in _BUCKETS:
            # Not a look at one name: of a bucket that is missing, that says the name is.
            self._call(lambda place: place.list("runs"))
        elif self._scheme == "file" and (missing := self._call(_missing_folder)) is not None:
            problem = f"the folder {missing} does not exist"
            raise self._unusable(problem)
        else:
            self._call(lambda place: place.stat("runs"))

    def _change(self, call: Callable[[Backend], Answer], size: int = 0) -> Answer:
        try:
            return self._ask(call, size)
        except FileNotFoundError as error:  # the bucket or the folder has gone
            raise self._unusable(str(error)) from error

    def _ask(self, call: Callable[[Backend], Answer], size: int = 0) -> Answer:
        """Call with what lies there, for a transfer of so many bytes, once it has answered at all.

        Nothing is missing from a bucket that is not there.
        """
        self.connect()
        return self._call(call, size)

    def _call(self, call: Callable[[Backend], Answer], size: int = 0) -> Answer:
        seconds = _SECONDS_FOR_A_REQUEST + size / _SLOWEST_BYTES_PER_SECOND
        try:
            return within(
                seconds,
                lambda: call(self._place()),
                lambda waited: _log.warning(
                    "waiting for %s, which has not answered for %.0f s; given up after %.0f s",
                    self,
                    waited,
                    seconds,
                ),
                (_SECONDS_UNTIL_SAID, SECONDS_BETWEEN_SENTENCES),
            )
        except (FileNotFoundError, NotRegularError, StorageError):
            raise
        except NoAnswerError as error:
            raise self._unusable(str(error)) from error
        except Exception as error:  # obstore has errors of its own, of every kind
            # What follows is said for obstore's developers.
            problem = str(error).partition("\n\nDebug source")[0]
            if "NoSuchBucket" in problem or "ContainerNotFound" in problem:
                problem = (
                    f"the bucket {urlsplit(self.url).netloc.rpartition('@')[2]} does not exist"
                )
            elif any(sign in problem for sign in _OF_ANOTHER_REGION):
                problem = "it lies in another region; name that in AWS_REGION"
            elif (answered := re.search(r"status code: (\d{3} [A-Za-z ]+)", problem)) is not None:
                code = re.search(r"<Code>(\w+)</Code>", problem)
                problem = f"it answers {answered[1].strip()}{f' ({code[1]})' if code else ''}"
            problem = redacted(problem)  # Azure's signatures are part of each URL
            if type(error).__name__ == "InvalidPathError":
                problem = f"it holds something whose name leads elsewhere; delete that. {problem}"
            problem += f" ({type(error).__name__})"
            raise self._unusable(problem) from error

    def _place(self) -> Backend:
        with self._lock:
            if self._opened is None:
                self._opened = open_place(self.url)
            return self._opened

    def _unusable(self, problem: str) -> SharedStoreError:
        """Return the error that names a store, what is wrong, what to check, and the way out."""
        if self._scheme in _S3:
            check = (
                "the bucket's name and region, the network, AWS_ENDPOINT_URL, and the credentials "
                "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"
            )
        elif self._scheme in _BUCKETS:
            check = "the bucket's name, the network, and the credentials"
        else:
            check = "the address, and whether it is mounted"
        message = (
            f"the shared store {self} cannot be used: {problem}. Check {check}. To work "
            f"meanwhile with what this machine has, set DIGITFLOW_STORE={cache_folder(self.url)}"
        )
        return SharedStoreError(message)


def open_place(url: str) -> Backend:
    """Return what lies behind a URL, without a deadline.

    Raises
    ------
    SharedStoreError
        If there is no way to such a URL.
    """
    scheme = urlsplit(url).scheme
    if scheme == "file":
        return LocalBackend(Path(url2pathname(urlsplit(url).path)))
    if scheme in (*_BUCKETS, "memory"):
        from digitflow.storage.backends.bucket import Bucket

        return Bucket(url, s3_endpoint())
    message = (
        f"DIGITFLOW_STORE={shown_url(url)}: expected a path, or a URL with one of "
        f"{', '.join(f'{each}://' for each in ('s3', 'gs', 'az', 'abfs', 'file'))}"
    )
    if scheme in _MOUNTED:
        message += (
            f". {scheme}:// is not supported: mount it, with sshfs or the like, and name its "
            "folder, such as file:///mnt/team/store"
        )
    raise SharedStoreError(message)


def cache_folder(url: str) -> Path:
    """Return the folder of this machine that keeps copies of what lies behind a URL.

    One folder for each URL and endpoint below `DIGITFLOW_CACHE`, or ``~/.digitflow-cache``.
    """
    parent = Path(os.environ.get("DIGITFLOW_CACHE") or "~/.digitflow-cache").expanduser()
    return parent.absolute() / short(digest_bytes(identity(url).encode()))


def identity(url: str) -> str:
    """Return what tells two shared stores apart: a bucket of another endpoint is another one."""
    url = url.rstrip("/")
    if urlsplit(url).scheme not in _S3:
        return url
    return f"{url}\n{s3_endpoint()}"


def s3_endpoint() -> str:
    """Return where S3 is, if it is not Amazon's: as the environment says, or nothing."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _missing_folder(place: Backend) -> Path | None:
    folder = Path(str(place))
    if not folder.exists():
        # Not made with all its parents: under a mount that is absent, that would be elsewhere.
        if not folder.parent.exists():
            return folder.parent
        folder.mkdir(exist_ok=True)
    return None
