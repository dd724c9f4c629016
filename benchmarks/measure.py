"""Whole processes, measured in turn: wall time, CPU time, peak memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# No command of a benchmark takes nearly so long, on any machine that one would measure on.
MOST_SECONDS = 4 * 3600.0


@dataclass(frozen=True)
class Cost:
    """What one process took: seconds of wall and of CPU time, and peak memory in MB."""

    wall: float
    cpu: float
    memory: float


@dataclass(frozen=True)
class Side:
    """One of the commands that are compared.

    Attributes
    ----------
    command
        What is run.
    folder
        Where.
    environment
        What differs from this process's environment.
    prepare
        Called before each run, and not measured.
    """

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    prepare: Callable[[], None] = lambda: None


def timed(side: Side) -> Cost:
    """Run a command to its end, which is killed if it does not come within `MOST_SECONDS`.

    Raises
    ------
    RuntimeError
        With what it wrote to stderr, if it fails.
    """
    side.prepare()
    started = time.perf_counter()
    process = subprocess.Popen(
        side.command,
        cwd=side.folder,
        env={**os.environ, **side.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    # Not `process.kill`, which would take the exit status from `wait4`.
    limit = threading.Timer(MOST_SECONDS, os.kill, (process.pid, signal.SIGKILL))
    limit.start()
    try:
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
    finally:
        limit.cancel()
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.stderr:
        process.stderr.close()
    if process.returncode:
        command = " ".join(map(str, side.command))
        within = (
            "" if seconds < MOST_SECONDS else f" after {MOST_SECONDS:,.0f} s, which is too long"
        )
        said = f"{process.returncode}{within}:\n{errors.decode()}"
        raise RuntimeError(f"{command} failed with {said}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turn(sides: Mapping[str, Side], rounds: int) -> dict[str, list[Cost]]:
    """Run every side once, unmeasured, and then all of them in turn, so many rounds."""
    for side in sides.values():
        timed(side)
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            costs[name].append(timed(side))
    return costs


def median(costs: Sequence[Cost]) -> Cost:
    """Return the median of each number."""
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
        statistics.median(cost.memory for cost in costs),
    )


def print_costs(costs: Mapping[str, Sequence[Cost]]) -> None:
    """Print a line for each side: medians, and the least of the CPU time."""
    for name, each in costs.items():
        middle, least = median(each), min(cost.cpu for cost in each)
        print(
            f"  {name:36} {middle.wall:6.2f} s wall {middle.cpu:6.2f} s CPU "
            f"(least {least:5.2f}) {middle.memory:5.0f} MB"
        )


def print_ratio(
    costs: Mapping[str, Sequence[Cost]], ours: str, theirs: str, bar: float | None
) -> bool:
    """Print how one side compares with another; return whether the bar for wall time is met."""
    one, other = median(costs[ours]), median(costs[theirs])
    wall, cpu = one.wall / other.wall, one.cpu / other.cpu
    met = bar is None or wall <= bar
    verdict = "" if bar is None else f"  bar {bar:.2f}: {'met' if met else 'MISSED'}"
    print(f"  {ours} / {theirs}: {wall:.2f} wall, {cpu:.2f} CPU{verdict}")
    return met
