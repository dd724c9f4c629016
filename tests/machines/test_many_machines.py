"""One deployment run on many machines, two of which die: docs/scaling.md as far as one can try it.

Every machine here is a folder: a home, a cache and processes of its own, and nothing in common
but the code and three addresses, those of the Prefect server (on PostgreSQL), of the store (on S3)
and of the Dask scheduler.
"""

import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import from_directory
from digitflow.tasks.parameters import resolve
from tests.patience import wait_for
from tests.servers.fixtures import CREATE_POOL, DEPLOY, START_WORKER, copy_project
from tests.servers.postgresql import running_postgresql
from tests.servers.prefect_server import PrefectServer, running_server, running_worker
from tests.servers.processes import free_port, kill, running
from tests.share.s3_server import running_s3
from tests.walk import walk, write_dataset

# Some seconds a training: long enough to be hit in the midst of it.
PARAMETERS = {
    "preset": "quick",
    "members": 6,
    "hidden_sizes": [64],
    "epochs": 150,
    "validation_size": 100,
    "batch_size": 32,
    "dpi": 40,
}
TRAININGS = {f"train-member-{number}" for number in range(1, 7)}


@dataclass(frozen=True)
class Machine:
    """A computer, as far as a folder can be one."""

    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        """What is its own in the environment of its processes."""
        return {"HOME": str(self.folder), "DIGITFLOW_CACHE": str(self.folder / "cache")}

    def has(self) -> set[str]:
        """Labels of the stages whose outputs lie in its own cache, made here or fetched."""
        caches = [Store(each) for each in (self.folder / "cache").glob("*")]
        return {
            record.label
            for cache in caches
            for stage in cache.records.stages()
            for record in cache.records.of_stage(stage)
        }

    def is_training(self) -> bool:
        """Whether there is a training that has finished an epoch, and not yet its last."""
        return any((self.folder / "cache").glob("*/scratch/*/*"))


def machine(folder: Path) -> Machine:
    """Set a machine up."""
    folder.mkdir()
    return Machine(folder)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    """A Prefect server on PostgreSQL, with the deployments; its environment leads to the store."""
    code, home = tmp_path / "code", tmp_path / "server"
    code.mkdir()
    home.mkdir()
    copy_project(code)
    with running_postgresql() as database, running_s3() as s3:
        bucket = f"many-machines-{uuid.uuid4()}"  # moto keeps buckets as long as its process
        s3.client().create_bucket(Bucket=bucket)
        settings = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        with running_server(home, settings=settings) as plain:
            environment = {
                **plain.environment,
                **s3.environment,
                "PYTHONPATH": str(code),
                "DIGITFLOW_STORE": f"s3://{bucket}/store",
            }
            server = replace(plain, environment=environment)
            for command in (CREATE_POOL, DEPLOY):
                done = server.prefect(*shlex.split(command)[1:], folder=code)
                assert done.returncode == 0, done.stdout + done.stderr
            yield server


@contextmanager
def dask(role: str, *arguments: str, on: Machine, server: PrefectServer) -> Iterator[Any]:
    """Run a Dask scheduler or worker on a machine while the context lasts."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{role}", *arguments, "--no-dashboard"]
    environment = {**server.environment, **on.settings}
    log = on.folder / f"dask-{role}.log"
    with running(command, folder=on.folder, environment=environment, log=log) as process:
        yield process


@contextmanager
def prefect_worker(on: Machine, server: PrefectServer) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a Prefect worker on a machine while the context lasts."""
    pool, name = shlex.split(START_WORKER)[-1], on.folder.name
    with running_worker(
        server, pool=pool, folder=on.folder, name=name, settings=on.settings
    ) as process:
        yield process


@pytest.mark.prefect
@pytest.mark.slow
def test_one_run_on_four_machines_of_which_two_die(server: PrefectServer, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "digits", training=1_500, test=100)
    ann, bob, cat, dan = (machine(tmp_path / name) for name in ("ann", "bob", "cat", "dan"))
    port = str(free_port())
    scheduler = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        at = ["--host", "127.0.0.1", "--port", port]
        stack.enter_context(dask("scheduler", *at, on=ann, server=server))
        worker = [scheduler, "--nthreads", "1"]
        dans = [
            stack.enter_context(dask("worker", *worker, on=each, server=server))
            for each in (cat, dan)
        ][1]
        anns = stack.enter_context(prefect_worker(ann, server))
        started = start(server, {**PARAMETERS, "dataset": str(dataset), "scheduler": scheduler})

        # Ann runs the flow, Cat and Dan train. Then Ann dies, with the flow.
        wait_for(lambda: cat.is_training() and dan.is_training(), "both trainings")
        kill(anns)
        stack.enter_context(prefect_worker(bob, server))
        start_again(server, started)

        # Bob goes on with the flow. Then Dan dies, in the midst of his second training.
        wait_for(lambda: dan.has() & TRAININGS and dan.is_training(), "Dan's second")
        kill(dans)
        run = server.finished(started["id"])

    said = "\n".join(log.read_text() for log in tmp_path.glob("*/*.log"))
    assert (run["state_type"], run["run_count"]) == ("COMPLETED", 2), said
    prepared = {"preprocess", "decode-training-images", "download-training-images"}
    assert ann.has() & prepared == prepared
    assert not ann.has() & {"combine", "evaluate", "plot"}
    assert bob.has() >= {"combine", "evaluate", "plot"}
    assert cat.has() & TRAININGS
    assert dan.has() & TRAININGS
    # What came out is what one machine alone makes of it, to the last bit.
    alone = walk(
        Store(tmp_path / "alone"),
        from_directory(dataset),
        resolve(str(PARAMETERS["preset"]), rest(PARAMETERS)),
    )
    found = Store(next((bob.folder / "cache").glob("*")))
    for label, stage in (("combine", "combine"), ("evaluate", "evaluate"), ("plot", "plot")):
        (record,) = found.records.of_stage(stage)
        assert record.outputs == alone.results[label].outputs, label


def rest(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that are not the preset."""
    return {name: value for name, value in parameters.items() if name != "preset"}


def start(server: PrefectServer, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Start a run of the deployment `train`, as the UI does."""
    (deployment,) = server.ask(
        "/deployments/filter", {"deployments": {"name": {"any_": ["train"]}}}
    )
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    started: dict[str, Any] = server.ask(f"/deployments/{deployment['id']}/create_flow_run", body)
    return started


def start_again(server: PrefectServer, run: Mapping[str, Any]) -> None:
    """Schedule a run whose process has died once more.

    `digitflow monitor` does it after ninety seconds without a sign of life; this does it at once.
    """
    for state in ({"type": "CRASHED"}, {"type": "SCHEDULED", "name": "AwaitingRetry"}):
        server.ask(f"/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
