"""One lock for each key, so that nothing is computed twice at once.

A lock is held by an open file. The system frees it when its process dies, however it dies, so
no killed run leaves a lock that anybody waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from storage.digests import is_sha256
from storage.room import explaining

if TYPE_CHECKING:
    from filelock import BaseFileLock

# filelock is imported where it is used: serving what is cached takes no lock.

_SECONDS_BETWEEN_CALLS = 1.0


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
    def computing(self, key: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Be the only one who computes a key.

        Parameters
        ----------
        key
            SHA-256 of the key's document.
        on_wait
            Called again and again while somebody else computes it; what it raises ends the wait.

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
                    on_wait()
        try:
            yield
        finally:
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

        self.root.mkdir(parents=True, exist_ok=True)
        return FileLock(self.root / f"{key}.lock")
