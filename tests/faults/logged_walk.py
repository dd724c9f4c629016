"""A walk of the pipeline as a job: what most fault tests disturb.

It is `tests.walk`, counted as a run in progress, with a run record at its end, and with every
event in a log, one JSON line each, which outlives the process.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digitflow.flows.selection import Selection
from digitflow.storage.history.runs import RunRecord
from digitflow.storage.records import now
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.events import (
    Event,
    StageFailed,
    StageFinished,
    StageProgressed,
    StageStarted,
    StageWaiting,
)
from tests import walk
from tests.patience import wait_for


@dataclass(frozen=True)
class Hold:
    """Where a training stands still.

    Attributes
    ----------
    epoch
        It has just reported, and saved.
    waiting
        How many others must wait for it, by its log, before it goes on; None: until it is killed.
    """

    epoch: int
    waiting: int | None = None

    def observe(self, event: Event, log: Path) -> None:
        """Stand still if it is this event's time."""
        if not isinstance(event, StageProgressed) or "train_loss" not in event.numbers:
            return
        if event.done != self.epoch:
            return

        def may_go_on() -> bool:
            waiting = [each for each in events(log, "StageWaiting") if each["label"] == event.label]
            return self.waiting is not None and len(waiting) >= self.waiting

        wait_for(may_go_on, "those who wait for a training, or its end")


@dataclass(frozen=True)
class LoggedWalk:
    """What to walk; called with a store and a log, it walks.

    Attributes
    ----------
    dataset
        Where the data comes from.
    changes
        Parameters that differ from those of a tiny run.
    selection
        Stages that run, or run again.
    name
        Of the run, in records.
    hold
        Where its training stands still.
    """

    dataset: Dataset
    changes: Mapping[str, Any] = field(default_factory=dict)
    selection: Selection = Selection()
    name: str = "walk"
    hold: Hold | None = None

    def __call__(self, store: Path, log: Path) -> walk.Walk:
        """Walk in this process."""
        cache = Store(store)
        parameters = walk.tiny_parameters(**self.changes)
        with cache.in_use():
            done = walk.walk(
                cache,
                self.dataset,
                parameters,
                self.selection,
                run=self.name,
                observer=lambda event: self._observe(event, log),
            )
            cache.runs.save(
                RunRecord(
                    name=self.name,
                    created=now(),
                    seconds=1.0,
                    preset="tutorial",
                    dataset=self.dataset.title,
                    parameters=parameters.model_dump(),
                    stages=tuple(_stage(done, label) for label in done.results),
                    metrics={},
                    results=None,
                )
            )
        return done

    def _observe(self, event: Event, log: Path) -> None:
        _write(log, event)
        if self.hold is not None:
            self.hold.observe(event, log)


def events(log: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return what a log holds of these kinds; a last line that a kill cut off is left out."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    read = [json.loads(line) for line in lines if line.endswith("}")]
    return [event for event in read if not kinds or event["event"] in kinds]


def epochs_trained(log: Path) -> list[int]:
    """Return the epochs that a log reports, in order."""
    reports = events(log, "StageProgressed")
    return [int(each["done"]) for each in reports if "train_loss" in each["numbers"]]


def _stage(done: walk.Walk, label: str) -> dict[str, Any]:
    result = done.results[label]
    return {
        "name": label,
        "stage": result.stage,
        "cached": result.cached,
        "reasons": list(result.reasons),
        "seconds": result.seconds,
        "key": result.key,
        "outputs": {name: each.to_json() for name, each in result.outputs.items()},
    }


def _write(log: Path, event: Event) -> None:
    entry: dict[str, Any] = {
        "event": type(event).__name__,
        "label": event.label,
        "process": os.getpid(),
        "time": time.time(),
    }
    match event:
        case StageWaiting():
            entry["reason"] = event.reason
        case StageStarted():
            entry["reasons"] = event.reasons
        case StageProgressed():
            entry |= {"done": event.done, "unit": event.unit, "numbers": list(event.numbers)}
        case StageFinished():
            entry["cached"] = event.cached
        case StageFailed():
            entry["error"] = f"{type(event.error).__name__}: {event.error}"
    # One write of one line: several processes may share a log.
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(entry) + "\n").encode())
    finally:
        os.close(descriptor)
