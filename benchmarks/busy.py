"""Wall time of a training of the preset `quick` on a machine as it is, and on a busy one.

    python benchmarks/busy.py

In turn: with one BLAS thread and with two, each alone and beside a process on every core that does
nothing but compute. Bar: with one thread, which is the default, wall time is at most 1.3 times the
ideal share in each.

The ideal share is what a fair scheduler gives: where R want C cores, one that computes with one
thread gets min(1, C / R) of a core, so that its CPU time takes max(1, R / C) times as long. R is
counted four times a second all the while in /proc (Linux only), so that other people's work on the
machine counts, too: processes that run or wait for a core, or their sessions where the kernel
shares by session (`kernel.sched_autogroup_enabled`). Training and busy processes have sessions of
their own. Two threads are held to the same ideal, that of one thread's CPU time: they are to be no
slower.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kernels import use_own_kernels  # noqa: E402 - found by now
from benchmarks.measure import Cost, Side, timed  # noqa: E402
from benchmarks.train import make_data  # noqa: E402

BAR = 1.3
SECONDS_BETWEEN_LOOKS = 0.25
BY_SESSION = Path("/proc/sys/kernel/sched_autogroup_enabled")


def train(images: int, threads: int) -> None:
    from digitflow.tasks.nn.presets import PRESETS
    from digitflow.tasks.nn.settings import TrainingSettings
    from digitflow.tasks.nn.training.train import train_network

    data = make_data(images)
    settings = {**PRESETS["quick"], "validation_size": images // 10, "blas_threads": threads}
    train_network(*data, *data, settings=TrainingSettings(**settings))


def wanting(states: Iterable[str], *, by_session: bool) -> int:
    """Return how many processes, or sessions of them, run or wait for a core.

    Parameters
    ----------
    states
        What /proc/PID/stat says of each process.
    by_session
        Whether those of one session count once.
    """
    # The name stands in parentheses and may hold anything; then state, parent, group, session.
    fields = [state.rpartition(")")[2].split() for state in states]
    sessions = [each[3] for each in fields if each[0] == "R"]
    return len(set(sessions) if by_session else sessions)


def states() -> Iterator[str]:
    """Yield what /proc says of each process but this one."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        if path.parent.name != str(os.getpid()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                yield path.read_text(errors="replace")


def ideal_seconds(cpu: float, looks: Sequence[int], cores: int) -> float:
    """Return the wall time of so much CPU time of one thread under a fair scheduler.

    Parameters
    ----------
    cpu
        Seconds.
    looks
        How many wanted a core at each look, the one in question among them.
    cores
        How many there are.
    """
    return cpu * statistics.fmean(max(1.0, each / cores) for each in looks)


@contextlib.contextmanager
def looking() -> Iterator[list[int]]:
    """Fill a list with how many want a core, until the block is left."""
    looks: list[int] = []
    by_session = BY_SESSION.exists() and BY_SESSION.read_text().strip() == "1"
    done = threading.Event()

    def look() -> None:
        while not done.wait(SECONDS_BETWEEN_LOOKS):
            looks.append(wanting(states(), by_session=by_session))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield looks
    finally:
        done.set()
        thread.join(timeout=10)


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Run so many processes that only compute, until the block is left."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait(timeout=60)


def measure(
    images: int, rounds: int, threads_of: Sequence[int]
) -> dict[tuple[int, int], list[tuple[Cost, list[int]]]]:
    """Run all in turn; return costs and looks by number of threads and of busy processes."""
    cases = [(threads, others) for threads in threads_of for others in (0, os.cpu_count() or 1)]
    found: dict[tuple[int, int], list[tuple[Cost, list[int]]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for threads, others in cases:
            command = [sys.executable, __file__, "--train", str(images), str(threads)]
            with busy(others), looking() as looks:
                cost = timed(Side(command, ROOT, {}))
            found[threads, others].append((cost, looks))
    return found


def main() -> None:
    use_own_kernels()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-threads", type=int, choices=(1, 2), default=2)
    parser.add_argument("--train", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        os.setsid()
        train(*arguments.train)
        return
    cores = os.cpu_count() or 1
    print(f"cores: {cores}; load average before: {os.getloadavg()[0]:.2f}\n")
    print(
        "| BLAS threads | beside | wanting a core | CPU s | wall s | ideal s | ratio | spread | |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    missed = False
    found = measure(arguments.images, arguments.rounds, (1, 2)[: arguments.most_threads])
    for (threads, others), runs in found.items():
        # One thread's CPU time in the same round: the work, without the threads' waiting.
        ideals = [
            ideal_seconds(single.cpu, looks, cores)
            for (single, _), (_, looks) in zip(found[1, others], runs, strict=True)
        ]
        ratios = [cost.wall / ideal for (cost, _), ideal in zip(runs, ideals, strict=True)]
        ratio = statistics.median(ratios)
        verdict = ""
        if threads == 1:
            verdict = "met" if ratio <= BAR else "MISSED"
            missed = missed or ratio > BAR
        print(
            f"| {threads} | {others} busy processes "
            f"| {statistics.fmean(each for _, looks in runs for each in looks):.1f} "
            f"| {statistics.median(cost.cpu for cost, _ in runs):.1f} "
            f"| {statistics.median(cost.wall for cost, _ in runs):.1f} "
            f"| {statistics.median(ideals):.1f} | {ratio:.2f} "
            f"| {min(ratios):.2f}–{max(ratios):.2f} | {verdict} |"
        )
    sys.exit(missed)


if __name__ == "__main__":
    main()
