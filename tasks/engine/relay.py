"""News of a stage that runs in another process, and the request to stop it.

A Dask worker hears of neither the terminal nor Ctrl-C. Its events travel through the scheduler
as plain values, and the process of the flow emits them again. What ends a stage is not sent: that
the flow learns from its result, in order and for certain.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.events import (
    Event,
    StageNoted,
    StageProgressed,
    StageStarted,
    StageWaiting,
    observing,
)

# A bar that moves four times a second looks alive, and the scheduler hardly notices.
_SECONDS_BETWEEN_REPORTS = 0.25

# Of this process: the flow runs whose stages are to stop.
_stopped: set[str] = set()


def stop(topic: str) -> None:
    """Let the stages of one flow run that are in this process stop at their next report."""
    _stopped.add(topic)


@dataclass(frozen=True)
class Relay:
    """Where the news of one stage go.

    Attributes
    ----------
    topic
        Names the flow run on the scheduler, which others may use as well.
    label
        Of the stage. Several may be at work in one process.
    """

    topic: str
    label: str

    @contextmanager
    def relaying(self) -> Iterator[None]:
        """Send the stage's events from a Dask worker while the context lasts.

        Raises
        ------
        StoppedError
            At the next event, or at once, after the flow run was asked to stop.
        """
        from distributed import get_worker

        worker = get_worker()
        self._check()
        with observing(self._sender(lambda message: worker.log_event(self.topic, message))):
            yield

    def _sender(self, send: Callable[[dict[str, Any]], None]) -> Callable[[Event], None]:
        last = 0.0

        def observe(event: Event) -> None:
            nonlocal last
            if event.label != self.label:
                return
            self._check()
            if isinstance(event, StageProgressed):
                now = time.monotonic()
                if event.done != event.total and now - last < _SECONDS_BETWEEN_REPORTS:
                    return
                last = now
            message = _message(event)
            if message is not None:
                send(message)

        return observe

    def _check(self) -> None:
        if self.topic in _stopped:
            message = "stopped on request"
            raise StoppedError(message)


def _message(event: Event) -> dict[str, Any] | None:
    match event:
        case StageWaiting(label, reason):
            return {"kind": "waiting", "label": label, "reason": reason}
        case StageNoted(label, text):
            return {"kind": "noted", "label": label, "text": text}
        case StageStarted(label, reasons):
            return {"kind": "started", "label": label, "reasons": list(reasons)}
        case StageProgressed(label, done, total, unit, numbers):
            values = {name: float(value) for name, value in numbers.items()}
            return {
                "kind": "progressed",
                "label": label,
                "done": float(done),
                "total": None if total is None else float(total),
                "unit": unit,
                "numbers": values,
            }
        case _:
            return None


def event_of(message: Mapping[str, Any]) -> Event:
    """Return the event that a message stands for."""
    label = message["label"]
    if message["kind"] == "waiting":
        return StageWaiting(label, message["reason"])
    if message["kind"] == "noted":
        return StageNoted(label, message["text"])
    if message["kind"] == "started":
        return StageStarted(label, tuple(message["reasons"]))
    return StageProgressed(
        label, message["done"], message["total"], message["unit"], dict(message["numbers"])
    )
