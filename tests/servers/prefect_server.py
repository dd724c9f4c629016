"""A real Prefect server, a worker, and what is asked of them."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from tests.environment import CLEAN, OFFLINE
from tests.mnist import has_mnist, mnist_folder
from tests.patience import PATIENCE, wait_for
from tests.servers.processes import free_port, running

PREFECT = (sys.executable, "-m", "prefect")


@dataclass(frozen=True)
class PrefectServer:
    """A running server.

    Attributes
    ----------
    url
        Of its UI; the API lies below it.
    environment
        For its clients and workers: nothing in it leads to the user's own server or store.
    pid
        Its process, if the test itself started it.
    """

    url: str
    environment: Mapping[str, str]
    pid: int | None = None

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """POST a body to the API, or GET without one, and return the answer."""
        answer = self.answer(path, body)
        assert answer.ok, f"{path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def answer(self, path: str, body: Mapping[str, Any] | None = None) -> requests.Response:
        """Ask the API, and return its answer even if it is a refusal."""
        method = "GET" if body is None else "POST"
        # Like Prefect's own client: SQLite is locked now and then on a loaded machine.
        busy = Retry(
            total=6,
            backoff_factor=0.5,
            status_forcelist=[503],
            allowed_methods=None,
            raise_on_status=False,
            connect=0,
        )
        with requests.Session() as session:
            session.trust_env = False  # no proxy between us, whichever a test sets
            session.mount("http://", HTTPAdapter(max_retries=busy))
            return session.request(method, f"{self.url}/api{path}", json=body, timeout=PATIENCE)

    def is_there(self) -> bool:
        """Tell whether it answers."""
        try:
            return self.answer("/health").ok
        except requests.ConnectionError:
            return False

    def prefect(self, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run `prefect` with these arguments in a folder."""
        return subprocess.run(
            [*PREFECT, *arguments],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def finished(self, run_id: str) -> dict[str, Any]:
        """Wait until a flow run has ended, and return it."""

        def ask() -> dict[str, Any] | None:
            run: dict[str, Any] = self.ask(f"/flow_runs/{run_id}")
            return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

        return wait_for(ask, f"the end of flow run {run_id}")


def own_name(run: Mapping[str, Any]) -> str:
    """The name of a flow run without what its title adds: what its folder is called."""
    name: str = run["name"]
    return name.partition(" · ")[0]


@contextmanager
def running_server(
    folder: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[PrefectServer]:
    """Run a server while the context lasts, everything of it in `folder`.

    Parameters
    ----------
    folder
        Home of the server, its clients and its workers.
    port
        Its port, for one that comes back; None for a free one.
    settings
        More of its environment.
    """
    port = port or free_port()
    environment = {**environment_of(folder, port), **(settings or {})}
    command = [sys.executable, "-m", "digitflow", "server"]
    log = folder / "server.log"
    with running(command, folder=folder, environment=environment, log=log) as process:
        server = PrefectServer(f"http://127.0.0.1:{port}", environment, process.pid)

        def healthy() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{log.read_text()}")
            return server.is_there()

        wait_for(healthy, "the Prefect server's start")
        yield server


@contextmanager
def running_worker(
    server: PrefectServer,
    *,
    pool: str,
    folder: Path,
    name: str = "only",
    settings: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a worker while the context lasts.

    Parameters
    ----------
    server
        Whose runs it takes.
    pool
        Of which pool.
    folder
        Where it is started, and its log is written, ``worker.log``.
    name
        Its name in the pool.
    settings
        More of its environment.
    """
    command = [*PREFECT, "worker", "start", "--pool", pool, "--name", name]
    log = folder / "worker.log"
    environment = {**server.environment, **(settings or {})}
    with running(command, folder=folder, environment=environment, log=log) as process:

        def online() -> bool:
            workers = server.ask(f"/work_pools/{pool}/workers/filter", {})
            return (name, "ONLINE") in [(each["name"], each["status"]) for each in workers]

        wait_for(online, f"the start of worker {name}")
        yield process


def environment_of(folder: Path, port: int) -> dict[str, str]:
    """Return the environment of a server on this port, with its home in `folder`."""
    environment = {
        **CLEAN,
        **OFFLINE,
        "HOME": str(folder),
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        # With --port alone the UI asks port 4200.
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DIGITFLOW_STORE": str(folder / "store"),
    }
    if has_mnist():
        environment["DIGITFLOW_MIRROR"] = str(mnist_folder())
    return environment
