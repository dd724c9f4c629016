"""For how long nothing has been heard of a run, told from looking at it again and again.

Only the monotonic clock of whoever looks counts, so the clocks of server, workers and this machine
may differ. Nothing counts as heard or as silent while nobody could look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from uuid import UUID


class Phase(Enum):
    """Where a run is that needs somebody to look after it."""

    TAKEN = "taken by a worker, and not begun"
    RUNNING = "running"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Look:
    """What a server shows of a run. Two looks are equal if nothing was heard between them.

    Attributes
    ----------
    run, name
        Which run.
    phase
        Where it is.
    state
        The identifier of its state: entering the same one again gives another.
    heartbeat
        The identifier of its newest heartbeat; None without one.
    """

    run: UUID
    name: str
    phase: Phase
    state: UUID
    heartbeat: UUID | None = None


@dataclass(frozen=True)
class Patience:
    """After how many seconds in which nothing is heard of a run something is done.

    Attributes
    ----------
    running
        Three heartbeats: it has lost its process.
    taken
        Its worker died before the run had begun.
    crashed
        Before it starts again. Not at once: a worker reports the same crash a second time some ten
        seconds later, and that would hit the new start.
    """

    running: float = 90.0
    taken: float = 300.0
    crashed: float = 20.0

    def of(self, phase: Phase) -> float:
        """Return the seconds for a phase."""
        return {
            Phase.RUNNING: self.running,
            Phase.TAKEN: self.taken,
            Phase.CRASHED: self.crashed,
        }[phase]


class Silences:
    """How long each run has looked the same.

    Parameters
    ----------
    longest_gap
        Seconds. After a longer time without a look (the machine slept, the server was away) every
        silence begins anew: what happened meanwhile is still on its way.
    """

    def __init__(self, longest_gap: float) -> None:
        self._longest_gap = longest_gap
        self._since: dict[Look, float] = {}
        self._last: float | None = None

    def observe(self, now: float, looks: Iterable[Look]) -> dict[Look, float]:
        """Take in one look at all runs, and return the seconds for which each looked the same.

        Parameters
        ----------
        now
            Of a monotonic clock, in seconds, taken before the server was asked.
        looks
            One for each run that needs looking after.
        """
        if self._last is not None and now - self._last > self._longest_gap:
            self.forget()
        self._last = now
        self._since = {look: self._since.get(look, now) for look in looks}
        return {look: now - since for look, since in self._since.items()}

    def forget(self) -> None:
        """Begin every silence anew."""
        self._since.clear()
