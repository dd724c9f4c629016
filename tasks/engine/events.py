"""What happens during a run, for whoever shows it: a terminal, a log, a test.

Stages run in threads of the process that runs the flow, so observers must be quick and are
called one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class StageWaiting:
    """Another run computes the same; this one waits for its outputs. `reason` says which."""

    label: str
    reason: str = "another run is computing it"


@dataclass(frozen=True)
class StageNoted:
    """A stage says in a sentence what is going on, such as what it waits for."""

    label: str
    text: str


@dataclass(frozen=True)
class StageStarted:
    """A stage has to compute; `reasons` says why."""

    label: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class StageProgressed:
    """A stage has done `done` of `total` units (total None where unknown).

    `unit` is ``bytes``, ``epochs``, …; `numbers` holds what belongs beside the bar, such as
    the loss and accuracy of the last epoch.
    """

    label: str
    done: float
    total: float | None
    unit: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageFinished:
    """A stage's outputs are in the store; `reasons` is empty if they already were."""

    label: str
    cached: bool
    seconds: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageFailed:
    """A stage raised; it will be tried again up to `tries_left` times."""

    label: str
    error: BaseException
    tries_left: int


@dataclass(frozen=True)
class PointsStarted:
    """A sweep trains points: by the labels of their stages, what tells each from the others.

    All of them at most until so many `epochs` are done, and compares them then by `metric`.
    """

    points: Mapping[str, str]
    metric: str
    epochs: int
    label: str = "points"


@dataclass(frozen=True)
class PointDone:
    """A point of a sweep is trained (or `epochs` of it), with its score, or has failed."""

    label: str
    cached: bool
    seconds: float
    epochs: int
    score: float | None
    error: str | None


Event = (
    StageWaiting
    | StageNoted
    | StageStarted
    | StageProgressed
    | StageFinished
    | StageFailed
    | PointsStarted
    | PointDone
)
Observer = Callable[[Event], None]

_observers: list[Observer] = []
_lock = threading.RLock()


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Call `observer` with every event while the context lasts."""
    with _lock:
        _observers.append(observer)
    try:
        yield
    finally:
        with _lock:
            _observers.remove(observer)


def emit(event: Event) -> None:
    """Hand an event to every observer."""
    with _lock:
        for observer in _observers:
            observer(event)
