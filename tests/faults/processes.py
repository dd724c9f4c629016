"""Real processes that fill a store, to be killed, raced and starved.

Point it at stages of your own with a `Job`: a command, or a function, that is given the folder
of a store and a log. `from_command` makes one of any command that obeys `DIGITFLOW_STORE`;
`from_function` of a function at the top of a module, which runs in a fresh process that has the
slow imports behind it, so that a hundred of them take seconds.
"""

import multiprocessing
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from tests.patience import PATIENCE

_FORK_SERVER = multiprocessing.get_context("forkserver")
# What every walk imports sooner or later; a second of work that tells nothing about faults.
_FORK_SERVER.set_forkserver_preload(
    [
        "tests.faults.logged_walk",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
        "pandas",
        "requests",
        "filelock",
        "digitflow.tasks.nn.tutorial",
        "digitflow.tasks.data.download.fetch",
        "digitflow.tasks.data.idx.arrays",
        "digitflow.tasks.data.preparation",
        "digitflow.tasks.nn.metrics",
        "digitflow.tasks.figures.gallery",
        "digitflow.tasks.figures.confusion",
        "digitflow.tasks.figures.mistakes",
        "digitflow.tasks.figures.learning_curves",
    ]
)


class Attempt(Protocol):
    """A process that was started."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        ...

    def kill(self) -> None:
        """Kill it with a signal that it cannot catch, and everything that it started."""
        ...

    def wait(self) -> int:
        """Return its exit code; negative is the signal that killed it."""
        ...

    def output(self) -> str:
        """Return what it wrote to standard output and standard error."""
        ...


Job = Callable[[Path, Path], Attempt]
"""Starts a process that fills the store in the first folder and logs events to the second."""


@dataclass
class _Forked:
    process: ForkServerProcess
    said: Path

    @property
    def running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def wait(self) -> int:
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.kill()
            raise TimeoutError(f"not finished within {PATIENCE:g} s: {self.output()}")
        return self.process.exitcode

    def output(self) -> str:
        return self.said.read_text() if self.said.exists() else ""


@dataclass
class _Started:
    process: "subprocess.Popen[bytes]"
    said: Path

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"not finished within {PATIENCE:g} s: {self.output()}") from None

    def output(self) -> str:
        return self.said.read_text()


def from_function(
    function: Callable[[Path, Path], object], before: Callable[[Path], object] | None = None
) -> Job:
    """Make a job of a function that takes the store and the log.

    Parameters
    ----------
    function
        Must be importable, or an object of a class that is: it is sent to the process.
    before
        Called with the store in the process first, such as to set a limit.
    """

    def start(store: Path, log: Path) -> Attempt:
        said = _unused(log)
        # A daemon, so that what a failed test has left behind ends with the tests.
        process = _FORK_SERVER.Process(
            target=_call, args=(function, before, store, log, said), daemon=True
        )
        process.start()
        return _Forked(process, said)

    return start


def from_command(
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    user: int | None = None,
) -> Job:
    """Make a job of a command; its store is in `DIGITFLOW_STORE`."""

    def start(store: Path, log: Path) -> Attempt:
        said = _unused(log)
        with said.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env={**environment, "DIGITFLOW_STORE": str(store)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )
        return _Started(process, said)

    return start


def finish(job: Job, store: Path, log: Path) -> Attempt:
    """Run a job to its end, which must be a good one."""
    attempt = job(store, log)
    code = attempt.wait()
    assert code == 0, f"exit code {code}\n{attempt.output()}"
    return attempt


def _call(
    function: Callable[[Path, Path], object],
    before: Callable[[Path], object] | None,
    store: Path,
    log: Path,
    said: Path,
) -> None:
    try:
        if before is not None:
            before(store)
        function(store, log)
    except BaseException as error:
        # The line that a person would see first, then the whole story.
        said.write_text(f"{type(error).__name__}: {error}\n")
        with suppress(OSError), said.open("a") as file:
            file.write(traceback.format_exc())
        raise SystemExit(1) from None


def _unused(log: Path) -> Path:
    return log.with_name(f"{log.name}-{time.monotonic_ns()}.said")
