"""How long mirrors are waited for, in what order they are asked, and what is said meanwhile.

Resolving a name, a TLS handshake, headers, a file on a network drive that is away: none of them
can be interrupted, and time-outs of sockets count from the last byte, however few there are. So
another thread reads (`in_background`), and the one that wants the bytes looks at the clock.

docs/reliability.md lists these waits with all others.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.data.download.errors import (
    BusyError,
    MirrorError,
    OutOfTimeError,
    TooSlowError,
)

Result = TypeVar("Result")

# Seconds to wait for a connection, and for each next piece of data.
TIMEOUT = (5.0, 20.0)

# Seconds of the pieces that a wait is cut into, so that a run that is to stop need not sit it out.
_PIECE = 1.0

Head = TypeVar("Head")
# What opens a source: its head, and the bytes that follow.
Opening = Callable[[], AbstractContextManager[tuple[Head, Iterator[bytes]]]]

# Pieces that may have been read and not taken yet; with pieces of 256 KiB, one megabyte.
_AHEAD = 4
# Seconds between two looks at whether to go on.
_TICK = 1.0
_SECONDS_TO_END = 1.0


@dataclass(frozen=True)
class Limits:
    """When a mirror that answers is left all the same.

    Attributes
    ----------
    slowest : float
        Bytes per second that have to arrive on average over each `window`.
    window : float
        Seconds of waiting, the time to connect among them.
    total : float
        Seconds for one file, with all mirrors and all pauses.
    steady : float
        Bytes per second. A file that needs longer than `total` at this speed gets that long.
    pause : float
        Seconds for which a mirror may ask to be left alone (``Retry-After``).
    pauses : int
        How often one mirror is come back to.
    """

    slowest: float = 1_000.0
    window: float = 30.0
    total: float = 3_600.0
    steady: float = 50_000.0
    pause: float = 300.0
    pauses: int = 3

    def deadline(self, size: int | None = None) -> Deadline:
        """Return the end of the time for one file of `size` bytes, which begins now."""
        return Deadline(max(self.total, (size or 0) / self.steady))


LIMITS = Limits()


class Deadline:
    """A moment on the monotonic clock, `seconds` from now."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds until then, 0 afterwards."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Stop here once it has passed.

        Raises
        ------
        OutOfTimeError
            If it has.
        """
        if not self.left():
            reason = f"the {self.seconds:,.0f} s that it may take have passed"
            raise OutOfTimeError(reason)


@dataclass(frozen=True)
class MirrorFailure:
    """Why one mirror did not give the file.

    Attributes
    ----------
    mirror : str
        As it may be shown.
    reason : str
        In one line.
    permanent : bool
        True where asking again cannot help.
    later : bool
        True where it can, but not soon: the mirror wants to be left alone, or the time was over.
    """

    mirror: str
    reason: str
    permanent: bool
    later: bool = False


def ask_in_turn(
    mirrors: Sequence[str],
    ask: Callable[[str], Result],
    *,
    limits: Limits,
    deadline: Deadline,
    say: Callable[[str], None],
    alive: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Result | None, tuple[MirrorFailure, ...]]:
    """Ask one mirror after the other, and those that are busy again when they said.

    Parameters
    ----------
    mirrors : sequence of str
        In the order to ask them.
    ask : callable
        Asks one; raises `MirrorError` where another is to be asked.
    limits : Limits
        How long and how often a mirror may ask to be left alone.
    deadline : Deadline
        For all of them.
    say : callable
        Told of each pause, and of each mirror that is left for another.
    alive : callable
        Called every second of a pause; what it raises ends it.
    sleep : callable
        Sleeps for a number of seconds.

    Returns
    -------
    tuple
        What `ask` returned, or None, and why each of the others gave nothing, in their order.
    """
    due = dict.fromkeys(mirrors, 0.0)
    pauses: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    failures: dict[str, MirrorFailure] = {}
    while due:
        mirror = min(due, key=due.__getitem__)
        wait = due.pop(mirror) - time.monotonic()
        if wait > 0:
            say(f"{display(mirror)}: {reasons[mirror]}; asked again in {wait:,.0f} s")
            _pause(wait, alive, sleep)
        try:
            deadline.check()
            return ask(mirror), _in_order(mirrors, failures)
        except BusyError as error:
            reasons[mirror] = error.reason
            problem = _no_pause(error.seconds, pauses[mirror], limits, deadline)
            if problem is None:
                pauses[mirror] += 1
                due[mirror] = time.monotonic() + error.seconds
                continue
            reason, permanent, later = f"{error.reason}; {problem}", False, True
        except MirrorError as error:
            reason, permanent = error.reason, error.permanent
            later = isinstance(error, OutOfTimeError)
        failures[mirror] = MirrorFailure(display(mirror), reason, permanent, later)
        if due:
            following = display(min(due, key=due.__getitem__))
            say(f"{display(mirror)}: {reason}; going on with {following}")
    return None, _in_order(mirrors, failures)


def _no_pause(seconds: float, before: int, limits: Limits, deadline: Deadline) -> str | None:
    """Say why a mirror is not waited for, or return None if it is."""
    if seconds > limits.pause:
        return f"that is more than the {limits.pause:,.0f} s for which a mirror is waited for"
    if seconds > deadline.left():
        return f"that is more than is left of the {deadline.seconds:,.0f} s that it may take"
    if before == limits.pauses:
        return f"it has been waited for {before} times already"
    return None


def _pause(seconds: float, alive: Callable[[], None], sleep: Callable[[float], None]) -> None:
    while seconds > 0:
        alive()
        sleep(min(_PIECE, seconds))
        seconds -= _PIECE


def _in_order(
    mirrors: Sequence[str], failures: dict[str, MirrorFailure]
) -> tuple[MirrorFailure, ...]:
    return tuple(failures[each] for each in dict.fromkeys(mirrors) if each in failures)


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
