"""Trainings on Dask workers: the bytes of the serial pipeline, and errors that say what to do."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from digitflow.flows.spec import RunOptions
from digitflow.flows.train import train
from digitflow.flows.workers import Workers, WorkersError
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.events import Event, StageNoted, StageProgressed, observing
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.reporting.run_summary import RunSummary
from tests.flows.test_ensemble import MEMBERS, parameters
from tests.mnist import ROOT
from tests.patience import wait_for
from tests.servers.processes import free_port, kill, running
from tests.walk import walk


@contextmanager
def dask_cluster(folder: Path, **environment: str) -> Iterator[str]:
    """A scheduler and a worker, each a process of its own; gives the scheduler's address."""
    with dask_processes(folder, **environment) as (address, _):
        yield address


@contextmanager
def dask_processes(
    folder: Path, **environment: str
) -> Iterator["tuple[str, subprocess.Popen[bytes]]"]:
    """Likewise; gives the process of the worker, too."""
    port = str(free_port())
    address = f"tcp://127.0.0.1:{port}"
    variables = {**os.environ, **environment}
    folder.mkdir()
    commands = {
        "scheduler": [
            "--host",
            "127.0.0.1",
            "--port",
            port,
            "--no-dashboard",
        ],
        "worker": [address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)],
    }
    with ExitStack() as stack:
        for name, arguments in commands.items():
            command = [sys.executable, "-m", "distributed.cli.dask_" + name, *arguments]
            log = folder / f"{name}.log"
            process = stack.enter_context(
                running(command, folder=folder, environment=variables, log=log)
            )
        log = folder / "scheduler.log"
        wait_for(lambda: "Register worker" in log.read_text(), "the worker's coming")
        yield address, process


@pytest.mark.prefect
@pytest.mark.usefixtures("on_the_server")
class TestEnsemble:
    def given(self, dataset: Path) -> dict[str, Any]:
        small = parameters()
        names = ("training_sample", "test_sample", "epochs", "hidden_sizes", "dpi", "seed")
        names += ("validation_size", "batch_size", "members")
        values = small.model_dump(mode="json", include=set(names))
        return {"dataset": str(dataset), "preset": "quick", **values}

    def digests(self, summary: RunSummary) -> dict[str, str]:
        return {
            f"{result.label}.{name}": artifact.sha256
            for result in summary.stages
            for name, artifact in result.outputs.items()
        }

    def test_has_the_bytes_of_the_serial_pipeline(
        self, tiny: Dataset, tiny_directory: Path, tmp_path: Path
    ) -> None:
        serial = walk(Store(tmp_path / "other"), tiny, parameters())
        summary = train(**self.given(tiny_directory), workers=2)
        assert self.digests(summary) == serial.digests()
        assert summary.model == 1
        record = json.loads((summary.folder / "run.json").read_text())
        assert record["workers"]["workers"] == 2
        assert [result.label for result in summary.stages if result.stage == "train"] == MEMBERS

    def test_on_a_cluster_that_is_there(
        self, tiny: Dataset, tiny_directory: Path, tmp_path: Path
    ) -> None:
        given = self.given(tiny_directory)
        with dask_cluster(tmp_path / "dask", DIGITFLOW_STORE=str(tmp_path / "store")) as address:
            summary = train(**given, scheduler=address)
        serial = walk(Store(tmp_path / "other"), tiny, parameters())
        assert self.digests(summary) == serial.digests()
        # Cached, it needs neither workers nor a scheduler.
        again = train(**given)
        assert all(result.cached for result in again.stages)

    def test_a_cluster_that_loses_its_last_worker_is_given_up(
        self, tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody would ever train what waits there."""
        monkeypatch.setattr("digitflow.flows.workers._SECONDS_WITHOUT_WORKERS", 1.0)
        monkeypatch.setattr("digitflow.flows.workers._SECONDS_BETWEEN_COUNTS", 0.2)
        given = {**self.given(tiny_directory), "epochs": 10_000}
        store = str(tmp_path / "store")
        noted: list[StageNoted] = []
        with dask_processes(tmp_path / "dask", DIGITFLOW_STORE=store) as (address, worker):

            def observe(event: Event) -> None:
                if isinstance(event, StageProgressed) and event.unit == "epochs":
                    kill(worker)
                if isinstance(event, StageNoted):
                    noted.append(event)

            expected = f"{address}: expected workers, found none for 1 s; 3 trainings wait"
            with observing(observe), pytest.raises(WorkersError, match=expected):
                train(**given, scheduler=address)
        # Once, or again where the scheduler took long to miss it.
        assert {each.text for each in noted} == {
            f"scheduler {address} has no workers any more; waiting for one"
        }


class TestProblems:
    def enter(self, scheduler: str, root: Path) -> None:
        with Workers(Store(root), "run", at_most=2, scheduler=scheduler):
            pytest.fail("expected an error")

    def test_no_scheduler(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("digitflow.flows.workers._SECONDS_TO_CONNECT", 1)
        with pytest.raises(WorkersError, match="Start one with: dask scheduler"):
            self.enter(f"tcp://127.0.0.1:{free_port()}", tmp_path)

    def test_a_worker_that_does_not_answer(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("digitflow.flows.workers._SECONDS_TO_ANSWER", 1.0)
        with dask_processes(tmp_path / "dask") as (address, worker):
            paused = [worker, *psutil.Process(worker.pid).children(recursive=True)]
            for process in paused:
                process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(WorkersError, match="it has not answered within 1 s"):
                    self.enter(address, tmp_path)
            finally:
                for process in paused:
                    process.send_signal(signal.SIGCONT)

    def test_workers_with_a_proxy_ask_this_machine_without_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
        environment = {"HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "corp.example"}
        with (
            dask_cluster(tmp_path / "dask", **environment) as address,
            Workers(Store(tmp_path / "store"), "run", at_most=2, scheduler=address) as workers,
        ):
            found = workers._everywhere(os.getenv, "NO_PROXY")
        assert set(found.values()) == {"corp.example,127.0.0.1,localhost,::1"}

    def test_another_store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "ours"))
        with dask_cluster(tmp_path / "dask", DIGITFLOW_STORE=str(tmp_path / "theirs")) as address:
            expected = (
                r"expected the store .*ours as here, found .*theirs. Start it with DIGITFLOW_"
            )
            with pytest.raises(WorkersError, match=expected):
                self.enter(address, tmp_path / "ours")

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"workers": 2, "scheduler": "tcp://h:1"}, "choose one of the two"),
            ({"workers": 0}, "workers: expected 1 to 1,024, found 0"),
            ({"scheduler": "host:8786"}, "expected an address like tcp://10.0.0.1:8786, found"),
        ],
    )
    def test_options_that_do_not_fit(self, given: dict[str, Any], says: str) -> None:
        with pytest.raises(ParameterError, match=says):
            RunOptions("sample", **given).spec()


def test_most_runs_load_no_dask() -> None:
    script = "import sys, flows.train; assert 'distributed' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
