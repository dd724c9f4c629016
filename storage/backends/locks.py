"""Locks: one for each key, so that nothing is computed twice at once, and brief ones for the rest.

A lock is held by an open file. The system frees it when its process dies, however it dies, so
no killed run leaves a lock that anybody waits for.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from digitflow.storage.backends.atomic import make_folder
from digitflow.storage.backends.os_errors import explaining
from digitflow.storage.backends.safe_open import open_regular
from digitflow.storage.digests import is_sha256
from digitflow.storage.errors import StoreUnusableError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_log = logging.getLogger(__name__)

# filelock is imported where it is used: serving what is cached takes no lock.

_SECONDS_BETWEEN_CALLS = 1.0
# What is written under a brief lock is written in milliseconds, or in seconds on a slow disk.
SECONDS_FOR_A_BRIEF_LOCK = 120.0
# Between two sentences about a wait that may take long.
SECONDS_BETWEEN_SENTENCES = 60.0
_LONGEST_NOTE = 200  # bytes that are read of who holds a lock


@contextmanager
def briefly(path: Path, what: str, mode: int | None = None) -> Iterator[None]:
    """Hold a lock that nobody keeps for long.

    Parameters
    ----------
    path
        Of the lock's file; its folder must be there.
    what
        What is alone with what, for the error.
    mode
        The file's permissions. Who may read it may lock it.

    Raises
    ------
    StoreUnusableError
        If somebody has kept it for minutes.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path) if mode is None else FileLock(path, mode=mode)
    try:
        with explaining(f"the lock of {what}", path.parent):
            lock.acquire(timeout=SECONDS_FOR_A_BRIEF_LOCK)
    except Timeout as error:
        raise kept_too_long(path, what) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def patiently(path: Path, what: str) -> Iterator[None]:
    """Hold a lock that another process may keep for long, and say every minute that it does.

    Parameters
    ----------
    path
        Of the lock's file; its folder must be there.
    what
        What the other one makes.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    patience = _SECONDS_BETWEEN_CALLS
    while True:
        try:
            lock.acquire(timeout=patience)
            break
        except Timeout:
            patience = SECONDS_BETWEEN_SENTENCES
            _log.warning("waiting for %s, which another process is fetching (%s)", what, path)
    try:
        yield
    finally:
        lock.release()


def kept_too_long(path: Path, what: str) -> StoreUnusableError:
    """Return the error for a brief lock that is not freed."""
    return StoreUnusableError(
        f"{what}: another process has kept {path} locked for {SECONDS_FOR_A_BRIEF_LOCK:,.0f} s, "
        "which takes milliseconds. End it if it hangs (fuser shows which), and run again"
    )


class KeyLocks:
    """Locks in one folder, named by their keys.

    Parameters
    ----------
    root
        The folder; created with the first lock.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def computing(
        self, key: str, run: str = "", on_wait: Callable[[str], None] | None = None
    ) -> Iterator[None]:
        """Be the only one who computes a key.

        Parameters
        ----------
        key
            SHA-256 of the key's document.
        run
            Name of the run that computes it, for those who wait.
        on_wait
            Called every second while somebody else computes it, with who that is, or with
            nothing where that is not known; what it raises ends the wait. Computing may take
            hours, so nothing else ends it.

        Raises
        ------
        StorageFullError, StoreUnusableError
            If the lock's file cannot be made.
        """
        from filelock import Timeout

        with explaining("the lock of a computation", self.root):
            lock = self._lock(key)
            patience = 0.0
            while True:
                try:
                    lock.acquire(timeout=patience)
                    break
                except Timeout:
                    patience = _SECONDS_BETWEEN_CALLS
                if on_wait is not None:
                    on_wait(self._holder(key))
        try:
            place = f"process {os.getpid()} on {socket.gethostname()}"
            self._note(key, f"run {run or 'unnamed'} ({place})")
            yield
        finally:
            self._note(key, None)
            lock.release()

    @contextmanager
    def idle(self, key: str) -> Iterator[bool]:
        """Keep anybody from computing a key meanwhile; yields False if somebody does already."""
        from filelock import Timeout

        if not is_sha256(key):
            yield True  # nobody computes what is no key
            return
        lock = self._lock(key)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def _lock(self, key: str) -> BaseFileLock:
        from filelock import FileLock

        make_folder(self.root)
        return FileLock(self.root / f"{key}.lock")

    def _note(self, key: str, holder: str | None) -> None:
        """Write down who holds a lock, beside it: some versions of filelock empty its own file.

        It is for people alone. One that a killed run left is replaced by the next holder.
        """
        path = self.root / f"{key}.holder"
        with suppress(OSError):
            path.unlink(missing_ok=True)
            if holder is not None:
                with path.open("x", encoding="utf-8") as file:  # never through a link
                    file.write(holder)

    def _holder(self, key: str) -> str:
        try:
            with open_regular(self.root / f"{key}.holder") as file:
                text = file.read(_LONGEST_NOTE).decode("utf-8", "replace")
        except OSError:
            return ""
        return "".join(each if each.isprintable() else "?" for each in text)
