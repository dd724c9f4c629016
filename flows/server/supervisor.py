"""What one `digitflow up` runs, server, workers and monitor: started, watched, started again."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from digitflow.flows.server.endpoint import Place, answers
from digitflow.flows.server.errors import ServiceError
from digitflow.flows.server.pool import POOL
from digitflow.flows.server.processes import MARK, last_lines, start

_SECONDS_TO_START = 180.0
_LONGEST_PAUSE = 60.0


@dataclass
class _Service:
    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 1.0
    due: float = 0.0


class Supervisor:
    """A server, if there is none yet, workers, and a monitor of their runs.

    Parameters
    ----------
    place
        Where the server is or is to be.
    environment
        For all of them; the mark is added.
    mark
        What all their processes are known by.
    folder
        For their logs; they also run there.
    """

    def __init__(
        self, place: Place, environment: Mapping[str, str], mark: str, folder: Path
    ) -> None:
        self.place = place
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
            **self._environment,
            # With --port alone the UI would ask port 4200.
            "PREFECT_SERVER_API_PORT": str(self.place.port),
        }
        self._start("server", [sys.executable, "-m", "digitflow", "server"], environment)

    def wait_for_server(self) -> None:
        """Wait until the server answers.

        Raises
        ------
        ServiceError
            If it ends before, or takes minutes; ends with the end of its log.
        """
        server = self._services[0]
        deadline = time.monotonic() + _SECONDS_TO_START
        while not answers(self.place.api_url):
            code = None if server.process is None else server.process.poll()
            if code is not None or time.monotonic() > deadline:
                what = "does not answer" if code is None else f"ended with {code}"
                message = f"the Prefect server {what}; from {server.log}:\n{last_lines(server.log)}"
                raise ServiceError(message)
            time.sleep(0.1)

    def start_worker(self, number: int) -> None:
        """Start a worker that executes one run at a time."""
        name = f"{socket.gethostname()}-{number}"
        command = [sys.executable, "-m", "prefect", "worker", "start"]
        command += ["--pool", POOL, "--name", name, "--limit", "1"]
        self._start(f"worker-{number}", command, self._environment)

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

    def _start(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        service = _Service(name, command, environment, self._folder / f"{name}.log")
        self._services.append(service)
        self._launch(service)

    def _launch(self, service: _Service) -> None:
        service.process = start(
            service.command,
            folder=self._folder,
            environment={**service.environment, MARK: f"{self._mark} {service.name}"},
            log=service.log,
        )
        service.started = time.monotonic()
