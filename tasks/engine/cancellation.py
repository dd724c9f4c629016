"""Stop a run in good order: at the next report of progress, or before the next stage.

A run's stages work in threads, which Ctrl-C does not reach. Whoever catches it asks here, and
the stages look.
"""

from __future__ import annotations

import signal
import threading

INTERRUPTED = 128 + signal.SIGINT  # exit code of what Ctrl-C has ended, as shells expect


class StoppedError(Exception):
    """The run was asked to stop. What was finished is in the store."""


_requested = threading.Event()


def request_stop() -> None:
    """Ask every stage of this process to stop at its next chance."""
    _requested.set()


def clear() -> None:
    """Forget the request, for the next run of this process."""
    _requested.clear()


def requested() -> bool:
    """Tell whether a stop was asked for."""
    return _requested.is_set()


def check() -> None:
    """Stop here if that was asked for.

    Raises
    ------
    StoppedError
        If it was.
    """
    if _requested.is_set():
        message = "stopped on request"
        raise StoppedError(message)
