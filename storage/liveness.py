"""Which runs are in progress, so that nothing they may need is swept.

A run holds a lock on a file of its own for as long as its process lives. The system frees it
when the process dies, however it dies, so a killed run never counts as one in progress.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def in_progress(folder: Path) -> Iterator[None]:
    """Count as a run in progress while the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{uuid.uuid4().hex}.lock"
    lock = FileLock(path)
    lock.acquire()
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
            started = path.stat().st_mtime
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            starts.append(started)
        except FileNotFoundError:
            continue  # it ended just now
    return min(starts, default=None)
