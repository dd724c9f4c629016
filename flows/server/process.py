"""Processes in the background: started in a session of their own, found again, ended.

Each carries a mark in its environment, drawn at random for one `digitflow up`, and hands it down
to whatever it starts. So nothing is lost sight of, not even the run of a worker that was killed,
and a process that has got the number of a dead one by chance is never taken for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from digitflow.storage.backends.atomic import make_folder

MARK = "DIGITFLOW_UP"  # its value: mark, space, service
_RUN = "PREFECT__FLOW_RUN_ID"  # set by Prefect's workers
_LOG_BYTES = 10_000_000


def start(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start a command in the background, in a session that the terminal's Ctrl-C does not reach.

    Parameters
    ----------
    command
        Program and arguments.
    folder
        To run it in.
    environment
        All of it, with the mark.
    log
        File that its output is added to; beyond 10 MB the earlier part moves to ``<log>.old``.
    """
    with _opened(log) as output:
        return subprocess.Popen(  # noqa: S603 - our own commands
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def start_time(pid: int) -> float | None:
    """Return when a process started, in seconds since 1970; None if there is none."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


@dataclass(frozen=True)
class MarkedProcess:
    """A living process with a mark.

    Attributes
    ----------
    pid
        Its process id.
    service
        What it belongs to: ``server``, ``worker-1``, ….
    run
        Id of the flow run that it executes, or None.
    """

    pid: int
    service: str
    run: str | None


def marked(mark: str) -> list[MarkedProcess]:
    """Return every living process with this mark, but for the calling one."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # somebody else's, or it has ended meanwhile
        its_mark, _, service = environment.get(MARK, "").partition(" ")
        if its_mark == mark and process.pid != os.getpid():
            found.append(MarkedProcess(process.pid, service, environment.get(_RUN)))
    return found


def end(pids: Iterable[int], number: signal.Signals, seconds: float) -> None:
    """Send a signal to processes, and wait until they have ended, but no longer than `seconds`."""
    processes = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            process.send_signal(number)
        except psutil.Error:
            continue
        processes.append(process)
    psutil.wait_procs(processes, timeout=seconds)


def last_lines(log: Path, count: int = 15) -> str:
    """Return the end of a log, for a message."""
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


def _opened(log: Path) -> BinaryIO:
    make_folder(log.parent)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.old"))
    return log.open("ab")
