"""How long mirrors are waited for, in what order they are asked, and what is said meanwhile.

docs/reliability.md lists these waits with all others.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.data.download.mirror_errors import BusyError, MirrorError, OutOfTimeError

Result = TypeVar("Result")

# Seconds to wait for a connection, and for each next piece of data.
TIMEOUT = (5.0, 20.0)

# A wait is cut into pieces of so many seconds, so that a run that is to stop need not sit it out.
_PIECE = 1.0


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
    """A moment on the monotonic clock, so many `seconds` from now."""

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
        Sleeps so many seconds.

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
