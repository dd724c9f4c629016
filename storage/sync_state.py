"""Which documents of this machine the shared store has: a file ``….sent`` lies beside each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from digitflow.storage.errors import SharedStoreError

# Nobody can touch an object of S3: what is in use is written again, so often at most. A sweep
# of the shared store spares what was written in twice that time.
RENEWAL_SECONDS = 7 * 86_400.0
MARK = ".sent"


@contextmanager
def sending(path: Path, what: str) -> Iterator[None]:
    """Note that the document at `path` was sent, unless the context fails.

    Raises
    ------
    SharedStoreError
        With what becomes of `what`, if the context raises one.
    """
    try:
        yield
    except SharedStoreError as error:
        message = f"{error}. {what} is kept on this machine and sent by the next run"
        raise SharedStoreError(message) from error
    mark_sent(path)


def is_sent(path: Path) -> bool:
    """Tell whether the shared store has the document at `path`."""
    return path.with_suffix(MARK).exists()


def is_old(written: float) -> bool:
    """Tell whether something was written so long ago (seconds since 1970) that it is renewed."""
    return time.time() - written > RENEWAL_SECONDS


def is_to_be_renewed(path: Path) -> bool:
    """Tell whether the shared store has not been told for days that the document is in use."""
    try:
        return is_old(path.with_suffix(MARK).stat().st_mtime)
    except FileNotFoundError:
        return False


def mark_sent(path: Path, written: float | None = None) -> None:
    """Note that it has, since `written` (seconds since 1970) or since now."""
    mark = path.with_suffix(MARK)
    mark.touch()
    if written is not None:
        os.utime(mark, (written, written))


def mark_unsent(path: Path) -> None:
    """Note that it has not."""
    path.with_suffix(MARK).unlink(missing_ok=True)
