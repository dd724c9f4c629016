"""Download a file whose digest is known, from whichever mirror gives the right bytes."""

import errno
import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from digitflow.tasks.data.datasets.dataset import check_file_name
from digitflow.tasks.data.download.errors import (
    InterruptedTransferError,
    MirrorError,
    StartOverError,
    WrongBytesError,
)
from digitflow.tasks.data.download.mirrors import open_file
from digitflow.tasks.data.download.source_check import NoMirrorReachable, reachable
from digitflow.tasks.data.download.waiting import (
    LIMITS,
    TIMEOUT,
    Limits,
    MirrorFailure,
    Watch,
    ask_in_turn,
)
from digitflow.tasks.durable import rename_durably

Progress = Callable[[int, int], None]

__all__ = ["FetchError", "MirrorFailure", "NoMirrorReachable", "fetch", "reachable"]


class Part:
    """An open partial file that knows what the whole must be.

    Opening it hashes what an earlier process left, so that a transfer can go on from there.

    Parameters
    ----------
    path : Path
        The file; made if it is missing, removed on closing if it is empty.
    size : int
        Length of the whole, in bytes; the file never grows beyond it.
    sha256 : str
        Digest of the whole, 64 lower-case hex digits.
    progress : callable, optional
        Called with (bytes that have arrived, `size`) after each change.

    Attributes
    ----------
    length : int
        Bytes that have arrived.
    """

    def __init__(self, path: Path, *, size: int, sha256: str, progress: Progress | None) -> None:
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.length = 0
        self._progress = progress
        self._hash = hashlib.sha256()
        self._file = path.open("a+b")
        try:
            self._hash_what_is_there()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self.length == 0 and self.size > 0:
            self.path.unlink(missing_ok=True)

    def is_verified(self) -> bool:
        """Whether all bytes are there and they are the right ones."""
        return self.length == self.size and self._hash.hexdigest() == self.sha256

    def receive(self, begin: int, chunks: Iterable[bytes]) -> None:
        """Take the bytes that a mirror sends, to the verified end.

        Parameters
        ----------
        begin : int
            Offset of the first byte: `length`, or 0 to start over.
        chunks : iterable of bytes
            May raise `MirrorError`; what came before is kept.

        Raises
        ------
        InterruptedTransferError
            If `chunks` end early.
        WrongBytesError
            If one answer held the whole file and it is another; nothing is kept.
        StartOverError
            If the whole, put together from several answers, is wrong; nothing is kept.
        """
        if begin != self.length:
            self.clear()
        problem = None
        for chunk in chunks:
            if self.length + len(chunk) > self.size:
                problem = f"expected {self.size:,} bytes, it sends more"
                break
            self._append(chunk)
        if problem is None:
            if self.length < self.size:
                reason = "connection closed early"
                raise InterruptedTransferError(reason)
            if self.is_verified():
                return
            problem = f"expected SHA-256 {self.sha256}, found {self._hash.hexdigest()}"
        self.clear()
        kind = StartOverError if begin else WrongBytesError
        reason = f"wrong bytes: {problem}"
        raise kind(reason, permanent=True)

    def clear(self) -> None:
        """Drop what has arrived."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.length = 0
        self.report()

    def _hash_what_is_there(self) -> None:
        self._file.seek(0)
        self.length = self.path.stat().st_size
        if self.length <= self.size:
            self._hash = hashlib.file_digest(self._file, "sha256")
        if self.length > self.size or (self.length == self.size and not self.is_verified()):
            self.clear()
        self.report()

    def _append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.length += len(chunk)
        self.report()

    def report(self) -> None:
        """Report how many bytes have arrived."""
        if self._progress is not None:
            self._progress(self.length, self.size)


class FetchError(Exception):
    """No mirror gave the file.

    Attributes
    ----------
    name : str
        The file's name.
    failures : tuple of MirrorFailure
        One for each mirror, in the order tried.
    kept : int
        Bytes that have arrived and will be resumed.
    permanent : bool
        True where every failure was one that asking again within minutes cannot mend.
    """

    def __init__(self, name: str, failures: tuple[MirrorFailure, ...], kept: int) -> None:
        # All of them, so that the error survives pickling on its way from a worker.
        super().__init__(name, failures, kept)
        self.name = name
        self.failures = failures
        self.kept = kept

    @property
    def permanent(self) -> bool:
        return all(failure.permanent or failure.later for failure in self.failures)

    def __str__(self) -> str:
        lines = [f"{self.name} could not be had from any mirror:"]
        lines += [f"  {failure.mirror}: {failure.reason}" for failure in self.failures]
        if not all(failure.permanent for failure in self.failures):
            kept = f"; the {self.kept:,} bytes that have arrived are kept" if self.kept else ""
            advice = "Run again later" if self.permanent else "Check the network and run again"
            lines.append(f"{advice}{kept}.")
        if any(failure.reason.startswith("wrong bytes") for failure in self.failures):
            lines.append(
                "Bytes other than the dataset promises are never taken. Where they are the right "
                "ones now, add the dataset again with --replace (digitflow dataset add)."
            )
        lines.append(
            "To take the files from elsewhere, name another mirror (--mirror URL or DIR, "
            "or DIGITFLOW_MIRROR), or the directory that holds them (--dataset DIR)."
        )
        return "\n".join(lines)


def fetch(
    name: str,
    *,
    sha256: str,
    size: int,
    mirrors: Sequence[str],
    folder: Path,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
    timeout: tuple[float, float] = TIMEOUT,
    limits: Limits = LIMITS,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Return the path of the verified file `name` in `folder`, downloading what is missing.

    Mirrors are tried in order, and those that ask to be left alone for a while once more when all
    others have been. A transfer that breaks off is resumed at once on the same mirror for as long
    as each attempt gets further; one that is too slow goes on with the next mirror. Between calls
    the bytes that arrived stay in ``<name>.part``, to be resumed by the next. Only verified bytes
    ever bear the name `name`. One process at a time may fetch a file into a folder; the caller
    sees to that.

    Parameters
    ----------
    name : str
        Plain file name, the same on all mirrors and in `folder`.
    sha256 : str
        Expected digest, 64 lower-case hex digits.
    size : int
        Expected length in bytes. Not one byte more is accepted.
    mirrors : sequence of str
        URL prefixes (http, https), ``file://`` URLs or paths of directories.
    folder : Path
        Scratch directory; made if it is missing.
    progress : callable, optional
        Called with (bytes that have arrived, `size`) after each piece, and about once a second
        while nothing arrives; what it raises ends the download. The first number falls back when
        a transfer starts over.
    say : callable
        Told in a sentence of each pause, and of each mirror that is left for another.
    timeout : (float, float)
        Seconds to wait for a connection, and for each next piece of data.
    limits : Limits
        When a mirror that sends is left, and when all of them are.
    sleep : callable
        Sleeps for a number of seconds; for tests.

    Raises
    ------
    FetchError
        If no mirror gave the right bytes.
    ValueError
        If `name` is no plain file name, or `mirrors` is empty.
    OSError
        If `folder` cannot be written or has no room; no mirror is to blame for that.
    """
    check_file_name(name)
    if not mirrors:
        message = f"{name}: expected at least one mirror, found none"
        raise ValueError(message)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / name
    if _is_verified(target, sha256, size):
        return target
    target.unlink(missing_ok=True)
    with Part(folder / f"{name}.part", size=size, sha256=sha256, progress=progress) as part:
        _check_room(folder, name, size - part.length)
        deadline = limits.deadline(size)
        failures: tuple[MirrorFailure, ...] = ()

        def ask(mirror: str) -> None:
            _complete(part, mirror, name, timeout, Watch(limits, deadline, part.report))

        if not part.is_verified():
            _, failures = ask_in_turn(
                mirrors,
                ask,
                limits=limits,
                deadline=deadline,
                say=say,
                alive=part.report,
                sleep=sleep,
            )
        if not part.is_verified():
            raise FetchError(name, failures, part.length)
    rename_durably(part.path, target)
    return target


def _check_room(folder: Path, name: str, needed: int) -> None:
    """Refuse to begin what the disk cannot hold to the end."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        reason = f"{name} needs {needed:,} more bytes, {free:,} are free"
        raise OSError(errno.ENOSPC, reason, str(folder))


def _is_verified(path: Path, sha256: str, size: int) -> bool:
    if not path.is_file() or path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _complete(
    part: Part, mirror: str, name: str, timeout: tuple[float, float], watch: Watch
) -> None:
    """Bring `part` to its verified end from one mirror, or raise why that cannot be."""
    furthest = part.length  # an attempt that does not get beyond it is the last
    may_start_over = True
    while True:
        try:
            with open_file(
                mirror, name, begin=part.length, size=part.size, timeout=timeout, watch=watch
            ) as answer:
                part.receive(answer.begin, answer.chunks)
                return
        except StartOverError:
            if not may_start_over:
                raise
            part.clear()
            furthest = 0
            may_start_over = False
        except InterruptedTransferError as error:
            if part.is_verified():
                return  # all there; only the connection's end was untidy
            if part.length <= furthest:
                reason = f"{error.reason} ({part.length:,} of {part.size:,} bytes have arrived)"
                raise InterruptedTransferError(reason) from error
            furthest = part.length
        except MirrorError:
            if part.is_verified():
                return
            raise
