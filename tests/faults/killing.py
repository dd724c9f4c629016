"""Kill jobs at any moment: after some time, in a stage, before a file changes, in a write."""

import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.logged_walk import events
from tests.faults.processes import Attempt, Job

# Audit events of the interpreter that stand for a change of files. `os.rename` is also
# `Path.replace`, `open` comes with the path and the flags.
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime")


@dataclass(frozen=True)
class Kill:
    """A kill that was done: where the job was, and whether it had ended before."""

    stage: str
    came_late: bool


def kill_after(attempt: Attempt, log: Path, seconds: float) -> Kill:
    """Kill a job some time after its start."""
    deadline = time.monotonic() + seconds
    while attempt.running and time.monotonic() < deadline:
        time.sleep(min(0.002, seconds))
    return _kill(attempt, log)


def kill_in_stage(attempt: Attempt, log: Path, label: str, seconds: float) -> Kill:
    """Kill a job some time after a stage begins to compute, or to be served."""
    mark = f'"label": "{label}"'
    while attempt.running and not (log.exists() and mark in log.read_text()):
        time.sleep(0.001)
    return kill_after(attempt, log, seconds)


def kill_when(attempt: Attempt, log: Path, condition: Callable[[], bool]) -> Kill:
    """Kill a job as soon as something holds, such as what its log says."""
    while attempt.running and not condition():
        time.sleep(0.001)
    return _kill(attempt, log)


def kill_at_random(
    job: Job, store: Path, log: Path, rng: random.Random, *, seconds: float, labels: list[str]
) -> Kill:
    """Start a job and kill it at a random moment of its run.

    Parameters
    ----------
    seconds
        How long the job takes if it is left alone.
    labels
        Of its stages, if it logs events. Half of the kills then fall into one of them, each as
        likely as the other, however short it is; the other half anywhere in the job's time.
    """
    attempt = job(store, log)
    if not labels or rng.random() < 0.5:
        return kill_after(attempt, log, rng.uniform(0, seconds))
    return kill_in_stage(attempt, log, rng.choice(labels), rng.expovariate(1 / 0.02))


@dataclass(frozen=True)
class DyingAt:
    """A function that kills its own process before the n-th change of a file in the store.

    No other moment matters to what is on the disk, so these are all the crashes there are.
    """

    function: Callable[[Path, Path], object]
    change: int

    def __call__(self, store: Path, log: Path) -> None:
        """Call the function, up to that change."""
        left = self.change
        inside = f"{store}/"

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal left
            if event not in _CHANGES or not str(arguments[0]).startswith(inside):
                return
            if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                return
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        self.function(store, log)


def die_beyond(size: int, store: Path) -> None:
    """Let the system kill this process in the middle of a write, once a file has so many bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _kill(attempt: Attempt, log: Path) -> Kill:
    came_late = not attempt.running
    attempt.kill()
    begun = events(log)
    return Kill(begun[-1]["label"] if begun else "(none yet)", came_late)
