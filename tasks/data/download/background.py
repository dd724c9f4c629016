"""Read in a thread of its own, so that whoever waits for it can stop waiting.

Resolving a name, a TLS handshake, headers, a file on a network drive that is away: none of them
can be interrupted, and time-outs of sockets count from the last byte, however few there are. So
somebody else reads, and the one who wants the bytes looks at the clock.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from digitflow.tasks.data.download.mirror_errors import TooSlowError
from digitflow.tasks.data.download.timeouts import Deadline, Limits

Head = TypeVar("Head")
# What opens a source: its head, and the bytes that follow.
Opening = Callable[[], AbstractContextManager[tuple[Head, Iterator[bytes]]]]

# Pieces that may have been read and not taken yet; with pieces of 256 KiB, one megabyte.
_AHEAD = 4
# Seconds between two looks at whether to go on.
_TICK = 1.0
_SECONDS_TO_END = 1.0


class Watch:
    """Waits for what one mirror sends, and knows how much has come while it waited.

    Only waiting counts: a mirror is not slow because our disk is. It goes on from one request to
    the next, so that a mirror is also left that gives a byte with each connection.

    Parameters
    ----------
    limits : Limits
    deadline : Deadline
    alive : callable
        Called about once a second of waiting; what it raises ends it.
    """

    def __init__(
        self, limits: Limits, deadline: Deadline, alive: Callable[[], None] = lambda: None
    ) -> None:
        self._limits = limits
        self._deadline = deadline
        self._alive = alive
        self._waited = 0.0
        self._arrived = 0

    def take(self, handed: queue.Queue[Any]) -> Any:
        """Return the next item of a queue, waiting no longer than the limits allow.

        Raises
        ------
        TooSlowError
            If too little has arrived.
        OutOfTimeError
            If the deadline has passed.
        """
        while True:
            self._deadline.check()
            self._check_speed()
            patience = min(_TICK, self._limits.window - self._waited, self._deadline.left())
            began = time.monotonic()
            try:
                item = handed.get(timeout=max(0.0, patience))
            except queue.Empty:
                self._alive()
                continue
            finally:
                self._waited += time.monotonic() - began
            if isinstance(item, bytes):
                self._arrived += len(item)
            return item

    def _check_speed(self) -> None:
        if self._waited < self._limits.window:
            return
        if self._arrived < self._limits.slowest * self._limits.window:
            reason = (
                f"too slow: {self._arrived:,} bytes in {self._waited:,.0f} s, where at least "
                f"{self._limits.slowest:,.0f} a second are expected"
            )
            raise TooSlowError(reason)
        self._waited, self._arrived = 0.0, 0


@contextmanager
def in_background(opening: Opening[Head], watch: Watch) -> Iterator[tuple[Head, Iterator[bytes]]]:
    """Open a source in another thread; yields its head and, as it is read there, what follows.

    On leaving the context the thread is told to stop, and is not waited for: it ends when what
    it waits for does, and nothing that it reads then is looked at.

    Raises
    ------
    TooSlowError, OutOfTimeError
        As `watch` does.
    Exception
        What `opening`, or reading, raises.
    """
    handed: queue.Queue[Any] = queue.Queue(_AHEAD)
    left = threading.Event()

    def hand(item: object) -> bool:
        while not left.is_set():
            try:
                handed.put(item, timeout=_TICK)
            except queue.Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            with opening() as (head, chunks):
                # In a tuple, since a head could be anything.
                if hand((head,)) and all(map(hand, chunks)):
                    hand(None)
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            hand(error)

    def take() -> Any:
        item = watch.take(handed)
        if isinstance(item, BaseException):
            raise item
        return item

    def chunks() -> Iterator[bytes]:
        while (item := take()) is not None:
            yield item
        thread.join(_SECONDS_TO_END)

    thread = threading.Thread(target=read, name="reads from a mirror", daemon=True)
    thread.start()
    try:
        (head,) = take()
        yield head, chunks()
    finally:
        left.set()
