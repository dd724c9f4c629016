"""What one `digitflow up` runs, server, workers and monitor: started, watched, and ended."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from digitflow.flows.server.deploy import POOL
from digitflow.flows.server.endpoint import Endpoint, ServiceError, answers
from digitflow.flows.server.pidfile import UpRecord
from digitflow.flows.server.process import MARK, MarkedProcess, end, last_lines, marked, start

_SERVER = "server"
_SECONDS_TO_START = 180.0
_LONGEST_PAUSE = 60.0
_SECONDS_FOR_WORKERS = 3.0
_SECONDS_FOR_SERVER = 20.0
_SECONDS_TO_DIE = 10.0


@dataclass
class _Service:
    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 1.0
    due: float = 0.0


class Supervisor:
    """A server, if there is none yet, workers, and a monitor of their runs.

    Parameters
    ----------
    endpoint
        Where the server is or is to be.
    environment
        For all of them; the mark is added.
    mark
        What all their processes are known by.
    folder
        For their logs; server and monitor also run there.
    """

    def __init__(
        self, endpoint: Endpoint, environment: Mapping[str, str], mark: str, folder: Path
    ) -> None:
        self.endpoint = endpoint
        self._environment = environment
        self._mark = mark
        self._folder = folder
        self._services: list[_Service] = []

    @property
    def logs(self) -> list[Path]:
        """The logs of what runs."""
        return [service.log for service in self._services]

    def start_server(self) -> None:
        """Start the server; `wait_for_server` waits until it answers."""
        environment = {
            # Only programs of this machine can reach it, unless somebody decides otherwise.
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            # Prefect lets every page in the browser read and start runs; only its own UI may.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(
                f"http://{name}:{self.endpoint.port}" for name in ("127.0.0.1", "localhost")
            ),
            **self._environment,
            # With --port alone the UI would ask port 4200.
            "PREFECT_SERVER_API_PORT": str(self.endpoint.port),
        }
        self._start(_SERVER, [sys.executable, "-m", "digitflow", "server"], environment)

    def wait_for_server(self) -> None:
        """Wait until the server answers.

        Raises
        ------
        ServiceError
            If it ends before, or takes minutes; ends with the end of its log.
        """
        server = self._services[0]
        deadline = time.monotonic() + _SECONDS_TO_START
        while not answers(self.endpoint.api_url):
            code = None if server.process is None else server.process.poll()
            if code is not None or time.monotonic() > deadline:
                what = "does not answer" if code is None else f"ended with {code}"
                message = f"the Prefect server {what}; from {server.log}:\n{last_lines(server.log)}"
                raise ServiceError(message)
            time.sleep(0.1)

    def start_worker(self, number: int, folder: Path) -> None:
        """Start a worker that executes one run at a time, in a folder that results are left in."""
        name = f"{socket.gethostname()}-{number}"
        command = [sys.executable, "-m", "prefect", "worker", "start"]
        command += ["--pool", POOL, "--name", name, "--limit", "1"]
        self._start(f"worker-{number}", command, self._environment, folder)

    def start_monitor(self) -> None:
        """Start what starts lost runs again."""
        command = [sys.executable, "-m", "digitflow", "monitor", "--pool", POOL]
        self._start("monitor", command, self._environment)

    def watch(self, say: Callable[[str], None]) -> None:
        """Start again what has ended by itself; to be called again and again.

        Parameters
        ----------
        say
            Told of each such event.
        """
        for service in self._services:
            now = time.monotonic()
            if service.process is None:
                if now >= service.due:
                    self._launch(service)
                    say(f"{service.name}: started again")
                continue
            code = service.process.poll()
            if code is None:
                if now - service.started > _LONGEST_PAUSE:
                    service.pause = 1.0
                continue
            say(f"{service.name}: ended with {code}, its log is {service.log}")
            service.process = None
            service.due = now + service.pause
            service.pause = min(2 * service.pause, _LONGEST_PAUSE)

    def _start(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        log = self._folder / f"{name}.log"
        service = _Service(name, command, environment, folder or self._folder, log)
        self._services.append(service)
        self._launch(service)

    def _launch(self, service: _Service) -> None:
        service.process = start(
            service.command,
            folder=service.folder,
            environment={**service.environment, MARK: f"{self._mark} {service.name}"},
            log=service.log,
        )
        service.started = time.monotonic()


def shut_down(record: UpRecord) -> int:
    """End every process of an `up`, in good order, and hand its runs back to the server.

    Returns
    -------
    int
        How many runs were under way. They go on from their last epoch with the next worker.
    """
    found = marked(record.mark)
    runs = {each.run for each in found if each.run is not None}
    # Told to stop, a worker takes nothing new. What it does with its run differs: it waits for
    # it, or kills it and says nothing.
    end(
        [each.pid for each in found if _is_worker_or_monitor(each)],
        signal.SIGINT,
        _SECONDS_FOR_WORKERS,
    )
    left = [each for each in marked(record.mark) if each.service != _SERVER]
    runs |= {each.run for each in left if each.run is not None}
    # Workers first: one that sees its run die would report a crash.
    for its_run in (False, True):
        pids = [each.pid for each in left if _is_worker_or_monitor(each) is not its_run]
        end(pids, signal.SIGKILL, _SECONDS_TO_DIE)
    try:
        return _hand_back(record.api_url, runs)
    finally:
        end([each.pid for each in marked(record.mark)], signal.SIGTERM, _SECONDS_FOR_SERVER)
        kill_all(record)


def kill_all(record: UpRecord) -> None:
    """End every process of an `up` at once."""
    end([each.pid for each in marked(record.mark)], signal.SIGKILL, _SECONDS_TO_DIE)


def _is_worker_or_monitor(each: MarkedProcess) -> bool:
    return each.service != _SERVER and each.run is None


def _hand_back(api_url: str, runs: set[str]) -> int:
    """Schedule runs again whose processes are gone; return how many of them had not ended.

    Where the server does not answer, nothing is done: when it is back, a monitor notices that they
    are silent.
    """
    if not runs or not answers(api_url):
        return 0
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import AwaitingRetry

    message = "Its worker was stopped; it goes on from what is cached when the next one starts."
    count = 0
    with temporary_settings({PREFECT_API_URL: api_url}), get_client(sync_client=True) as client:
        for run in sorted(runs):
            state = client.read_flow_run(UUID(run)).state
            if state is not None and state.is_final() and not state.is_crashed():
                continue
            client.set_flow_run_state(UUID(run), AwaitingRetry(message=message), force=True)
            count += 1
    return count
