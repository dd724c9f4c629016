"""The deployments with Prefect's server on PostgreSQL, deployed by `digitflow deploy`."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.mnist import has_mnist
from tests.patience import wait_for
from tests.servers.fixtures import Deployed, copy_project
from tests.servers.long_training import start_long_training
from tests.servers.postgresql import running_postgresql
from tests.servers.prefect_server import running_server, running_worker
from tests.servers.processes import running
from tests.servers.up import DIGITFLOW, run_digitflow

pytestmark = pytest.mark.prefect


@dataclass(frozen=True)
class OnPostgresql:
    """What is deployed on a server whose database is PostgreSQL, with a worker.

    Attributes
    ----------
    deployed
        What is deployed.
    folder
        Home of server and worker.
    database
        URL of the database.
    stack
        Whatever is put on it ends with the tests.
    """

    deployed: Deployed
    folder: Path
    database: str
    stack: ExitStack

    def digitflow(self, *arguments: str) -> str:
        """Run a digitflow command that must succeed, and return what it says."""
        done = run_digitflow(self.deployed.server.environment, self.folder, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start_worker(self) -> None:
        """Start a worker."""
        server = self.deployed.server
        self.stack.enter_context(running_worker(server, pool="digitflow", folder=self.folder))

    def start_monitor(self) -> None:
        """Start `digitflow monitor`."""
        environment = self.deployed.server.environment
        log = self.folder / "monitor.log"
        command = [*DIGITFLOW, "monitor"]
        self.stack.enter_context(
            running(command, folder=self.folder, environment=environment, log=log)
        )


@pytest.fixture(scope="module")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnPostgresql]:
    folder = tmp_path_factory.mktemp("on-postgresql")
    project = copy_project(tmp_path_factory.mktemp("project"))
    with ExitStack() as stack:
        database = stack.enter_context(running_postgresql())
        settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        server = stack.enter_context(running_server(folder, settings=settings))
        server = replace(server, environment={**server.environment, "PYTHONPATH": str(project)})
        deployed = Deployed(server, project, folder, "mnist" if has_mnist() else "sample")
        found = OnPostgresql(deployed, folder, database, stack)
        assert "retrain-nightly" in found.digitflow("deploy")
        found.start_worker()
        found.start_monitor()
        yield found


def test_deploying_again_doubles_nothing(on_postgresql: OnPostgresql) -> None:
    server = on_postgresql.deployed.server

    def names() -> list[str]:
        kinds = ("deployments", "automations", "work_pools")
        return [each["name"] for kind in kinds for each in server.ask(f"/{kind}/filter", {})]

    before = names()
    assert len(set(before)) == len(before)
    assert "Europe/London" in on_postgresql.digitflow("deploy")
    assert sorted(names()) == sorted(before)


def test_next_nights_are_scheduled(on_postgresql: OnPostgresql) -> None:
    def scheduled() -> bool:
        return len(on_postgresql.deployed.runs("retrain-nightly", "SCHEDULED")) >= 3

    wait_for(scheduled, "three scheduled runs")


def test_a_server_killed_during_a_run_loses_nothing(
    on_postgresql: OnPostgresql, tmp_path: Path
) -> None:
    deployed = on_postgresql.deployed
    nights = {run["id"] for run in deployed.runs("retrain-nightly", "SCHEDULED")}
    training = start_long_training(deployed, tmp_path / "store")
    training.wait_for_epochs()
    assert deployed.server.pid is not None
    os.kill(deployed.server.pid, signal.SIGKILL)
    wait_for(lambda: not deployed.server.is_there(), "the server's end")
    port = int(deployed.server.url.rpartition(":")[2])
    settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": on_postgresql.database}
    on_postgresql.stack.enter_context(
        running_server(on_postgresql.folder, port=port, settings=settings)
    )
    run = training.finished()
    assert training.states()[-2:] == ["Running", "Completed"]
    assert run["run_count"] == 1
    assert "digitflow-report" in deployed.artifacts(run)
    assert nights <= {run["id"] for run in deployed.runs("retrain-nightly", "SCHEDULED")}


@pytest.mark.slow
def test_a_run_killed_with_its_worker_goes_on_with_another(
    on_postgresql: OnPostgresql, tmp_path: Path
) -> None:
    """With the times that are deployed: 90 s of silence, 20 s before it starts again.

    The one that is killed held the only place that its deployment has.
    """
    killed = start_long_training(on_postgresql.deployed, tmp_path / "killed", "retrain-nightly")
    killed.wait_for_epochs()
    killed.kill_with_its_worker()
    on_postgresql.start_worker()
    undisturbed = start_long_training(on_postgresql.deployed, tmp_path / "undisturbed")
    undisturbed.finished()
    assert killed.finished()["run_count"] == 2
    assert killed.weights() == undisturbed.weights()
