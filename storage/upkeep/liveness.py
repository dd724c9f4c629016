"""Which runs are in progress, so that nothing they may need is swept.

A run holds a lock on a file of its own for as long as its process lives. The system frees it
when the process dies, however it dies, so a killed run never counts as one in progress.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from digitflow.storage.backends.atomic import make_folder
from digitflow.storage.backends.locks import SECONDS_FOR_A_BRIEF_LOCK, kept_too_long


@contextmanager
def in_progress(folder: Path) -> Iterator[None]:
    """Count as a run in progress while the context lasts."""
    lock, path = _announce(folder)
    try:
        yield
    finally:
        lock.release()
        path.unlink(missing_ok=True)


def oldest_start(folder: Path) -> float | None:
    """Return when the oldest run in progress started, in seconds since 1970, or None.

    Files of runs that have died are removed.
    """
    starts = []
    for path in folder.glob("*.lock"):
        try:
            started = _started(path)
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            starts.append(started)
        except FileNotFoundError:
            continue  # it ended just now
        except OSError:  # not ours to lock: who knows whether it lives
            starts.append(started)
    return min(starts, default=None)


def _announce(folder: Path) -> tuple[FileLock, Path]:
    make_folder(folder)
    while True:
        path = folder / f"{time.time_ns()}-{uuid.uuid4().hex}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=SECONDS_FOR_A_BRIEF_LOCK)
        except Timeout as error:
            raise kept_too_long(path, "the list of runs in progress") from error
        if path.exists():
            return lock, path
        # Taken for that of a dead run, and removed, before it was locked.
        lock.release()


def _started(path: Path) -> float:
    """Return when a run started: its file's name or its time, whichever is earlier.

    Some versions of filelock renew the time of a file that they fail to lock.
    """
    nanoseconds = path.name.partition("-")[0]
    modified = path.stat().st_mtime
    return min(int(nanoseconds) / 1e9, modified) if nanoseconds.isdecimal() else modified
