"""Download a file whose digest is known, from whichever mirror gives the right bytes."""

import errno
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from digitflow.tasks.data.datasets.dataset import check_file_name
from digitflow.tasks.data.download.background import Watch
from digitflow.tasks.data.download.mirror_errors import (
    InterruptedTransferError,
    MirrorError,
    StartOverError,
)
from digitflow.tasks.data.download.mirrors import open_file
from digitflow.tasks.data.download.part import Part, Progress
from digitflow.tasks.data.download.reachable import NoMirrorReachable, reachable
from digitflow.tasks.data.download.timeouts import (
    LIMITS,
    TIMEOUT,
    Limits,
    MirrorFailure,
    ask_in_turn,
)
from digitflow.tasks.data.durable import rename_durably

__all__ = ["FetchError", "MirrorFailure", "NoMirrorReachable", "fetch", "reachable"]


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
        Sleeps so many seconds; for tests.

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
