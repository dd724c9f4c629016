"""Fixtures of the session: a server, the deployments of `prefect.yaml`, a worker, a run."""

import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.mnist import ROOT, has_mnist
from tests.servers.prefect_server import PrefectServer, running_server, running_worker

# As README and docs/deploy.md give them; a test compares.
CREATE_POOL = "prefect --no-prompt work-pool create digitflow --type process --overwrite"
DEPLOY = "prefect --no-prompt deploy --all"
START_SERVER = "digitflow server"
START_WORKER = "prefect worker start --pool digitflow"
START_MONITOR = "digitflow monitor"
LIST_NEXT_RUNS = "prefect flow-run ls --state-type SCHEDULED"
TELL_OF_CHANGE = (
    "prefect event emit digitflow.dataset.changed --resource-id digitflow.dataset.mnist"
)
RUN_TRAIN = "prefect deployment run digitflow/train --param epochs=5 --watch"


@dataclass(frozen=True)
class Deployed:
    """The deployments of `prefect.yaml` on a server, with a worker that serves them.

    Attributes
    ----------
    server
        The server.
    folder
        The project folder that they were deployed from.
    worked_in
        Where the worker was started, and runs leave their results.
    dataset
        ``mnist``, or ``sample`` where the MNIST files are missing.
    """

    server: PrefectServer
    folder: Path
    worked_in: Path
    dataset: str

    def read(self, deployment: str) -> dict[str, Any]:
        """Return a deployment as the API shows it."""
        asked = {"deployments": {"name": {"any_": [deployment]}}}
        found: list[dict[str, Any]] = self.server.ask("/deployments/filter", asked)
        assert len(found) == 1, f"{len(found)} deployments are called {deployment}"
        return found[0]

    def runs(self, deployment: str, *states: str) -> list[dict[str, Any]]:
        """Return the flow runs of a deployment that are in one of these states, newest first."""
        found: list[dict[str, Any]] = self.server.ask(
            "/flow_runs/filter",
            {
                "flow_runs": {
                    "deployment_id": {"any_": [self.read(deployment)["id"]]},
                    "state": {"type": {"any_": states}} if states else None,
                },
                "sort": "EXPECTED_START_TIME_DESC",
            },
        )
        return found

    def start(self, deployment: str, **body: Any) -> dict[str, Any]:
        """Start a run as the UI does, and return it."""
        path = f"/deployments/{self.read(deployment)['id']}/create_flow_run"
        started: dict[str, Any] = self.server.ask(path, {**body, "state": {"type": "SCHEDULED"}})
        return started

    def artifacts(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Return the artifacts of a flow run by their keys."""
        found = self.server.ask(
            "/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
        )
        return {artifact["key"]: artifact for artifact in found}


def copy_project(folder: Path) -> Path:
    """Copy what runs into a folder: whoever edits the project meanwhile changes no stage there."""
    shutil.copy(ROOT / "prefect.yaml", folder)
    for package in ("flows", "storage", "tasks"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copytree(ROOT / "digitflow", folder / "digitflow", symlinks=True)
    return folder


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A real Prefect server with a home of its own."""
    with running_server(tmp_path_factory.mktemp("prefect-server")) as server:
        yield server


@pytest.fixture(scope="session")
def deployed(
    prefect_server: PrefectServer, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """The deployments of `prefect.yaml`, with a worker; brought up as docs/deploy.md says.

    The worker is as on another machine: it has a wheel and no checkout, and a home and a folder of
    its own; it shares nothing but the store, and knows the server's address.
    """
    folder = copy_project(tmp_path_factory.mktemp("project"))
    environment = {**prefect_server.environment, "PYTHONPATH": str(folder)}
    server = replace(prefect_server, environment=environment)
    for command in (CREATE_POOL, DEPLOY):
        done = server.prefect(*shlex.split(command)[1:], folder=folder)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    elsewhere = tmp_path_factory.mktemp("worker")
    pool = shlex.split(START_WORKER)[-1]
    its_own = {
        "PYTHONPATH": str(installed),
        "HOME": str(elsewhere),
        "PREFECT_HOME": str(elsewhere / "prefect"),
    }
    with running_worker(server, pool=pool, folder=elsewhere, settings=its_own):
        yield Deployed(server, folder, elsewhere, "mnist" if has_mnist() else "sample")


@pytest.fixture(scope="session")
def first_run(deployed: Deployed) -> dict[str, Any]:
    """A finished run of `train` with a changed parameter, started from the command line."""
    # Nothing is changed that need not be: with MNIST there the deployment's own dataset is used.
    dataset = [] if deployed.dataset == "mnist" else ["--param", f"dataset={deployed.dataset}"]
    done = deployed.server.prefect(*shlex.split(RUN_TRAIN)[1:], *dataset, folder=deployed.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return deployed.runs("train", "COMPLETED")[0]
