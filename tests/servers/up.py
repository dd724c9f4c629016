"""`digitflow up` in a home of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.mnist import has_mnist
from tests.patience import PATIENCE, wait_for
from tests.servers.fixtures import Deployed
from tests.servers.prefect_server import PrefectServer, environment_of
from tests.servers.processes import running

DIGITFLOW = (sys.executable, "-m", "digitflow")


@dataclass(frozen=True)
class Up:
    """A `digitflow up` that has finished starting.

    Attributes
    ----------
    process
        Its own process.
    deployed
        What it has brought up.
    screen
        What it has shown.
    environment
        Its environment; no server is named in it.
    folder
        It was started in.
    """

    process: "subprocess.Popen[bytes]"
    deployed: Deployed
    screen: Path
    environment: Mapping[str, str]
    folder: Path

    def digitflow(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run another digitflow command in the same home."""
        return run_digitflow(self.environment, self.folder, *arguments, **changes)

    def processes(self) -> list[psutil.Process]:
        """Everything that it has started, wherever it hangs: all that has its home."""
        home = self.environment["PREFECT_HOME"]
        found = []
        for process in psutil.process_iter():
            try:
                same_home = process.environ().get("PREFECT_HOME") == home
            except psutil.Error:
                continue
            if same_home and process.pid != self.process.pid:
                found.append(process)
        return found

    def server(self) -> psutil.Process:
        """The process of its server."""
        (server,) = [each for each in self.processes() if "server" in each.cmdline()]
        return server

    def end(self, number: signal.Signals = signal.SIGINT) -> str:
        """Send it a signal, wait until it has ended, and return what it has shown."""
        os.kill(self.process.pid, number)
        self.process.wait(PATIENCE)
        return self.screen.read_text(encoding="utf-8")


def run_digitflow(
    environment: Mapping[str, str], folder: Path, *arguments: str, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run a digitflow command and return how it ended."""
    return subprocess.run(
        [*DIGITFLOW, *arguments],
        cwd=folder,
        env={**environment, **changes},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@contextmanager
def running_up(
    home: Path,
    project: Path,
    port: int,
    *,
    foreign: PrefectServer | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Up]:
    """Run `digitflow up` while the context lasts, from another folder than the project's.

    Parameters
    ----------
    home
        Where it is at home; may be new.
    project
        What it deploys.
    port
        For its server.
    foreign
        A server that runs already, to be used instead.
    settings
        More of its environment.
    """
    environment = {**environment_of(home, port), "PYTHONPATH": str(project), "COLUMNS": "80"}
    server = foreign or PrefectServer(f"http://127.0.0.1:{port}", environment)
    alone = {name: text for name, text in environment.items() if name != "PREFECT_API_URL"}
    # Nor does anybody tell it to ask this machine without the proxy: that it has to know itself.
    alone["no_proxy"] = "corp.example"
    alone |= settings or {}
    if foreign is None:
        command = [*DIGITFLOW, "up", "--port", str(port)]
    else:
        command = [*DIGITFLOW, "up", "--workers", "1"]
        alone["PREFECT_API_URL"] = f"{foreign.url}/api"
    screen = home / "screen.txt"
    with running(command, folder=home, environment=alone, log=screen) as process:

        def is_up() -> bool:
            text = screen.read_text(encoding="utf-8")
            if process.poll() is not None:
                raise RuntimeError(f"digitflow up has ended:\n{text}")
            return "Ctrl-C takes everything down" in text

        try:
            wait_for(is_up, "digitflow up")
            deployed = Deployed(server, project, project, "mnist" if has_mnist() else "sample")
            yield Up(process, deployed, screen, alone, home)
        finally:
            run_digitflow(alone, home, "down")
