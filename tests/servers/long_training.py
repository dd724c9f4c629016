"""A training that lasts long enough to be interrupted, and what becomes of it."""

import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from digitflow.storage.store import Store
from tests.patience import wait_for
from tests.servers.fixtures import Deployed

# About two seconds an epoch on one core.
LONG = {"preset": "mlp", "epochs": 8}


@dataclass(frozen=True)
class LongTraining:
    """A run that trains, with a store of its own, under way.

    Attributes
    ----------
    deployed
        Where it runs.
    run
        As the API gave it when it was started.
    store
        Its store.
    """

    deployed: Deployed
    run: dict[str, Any]
    store: Path

    def wait_for_epochs(self) -> None:
        """Wait until it has finished an epoch, which it can go on from."""

        def trained() -> bool:
            # Finished stages take their folders away while they are looked through.
            with suppress(FileNotFoundError):
                return any(self.store.glob("scratch/*/*.npz"))
            return False

        try:
            wait_for(trained, "the first checkpoint")
        except TimeoutError as error:
            error.add_note(f"the run has been {', '.join(self.states())}")
            raise

    def processes(self) -> list[psutil.Process]:
        """Its worker and its own process, in this order."""
        for process in psutil.process_iter():
            try:
                if process.environ().get("PREFECT__FLOW_RUN_ID") == self.run["id"]:
                    worker = process.parent()
                    assert worker is not None
                    assert "worker" in worker.cmdline()
                    return [worker, process]
            except psutil.Error:
                continue
        raise AssertionError("the run has no process")

    def kill_with_its_worker(self) -> None:
        """Kill both so that neither can say anything."""
        for process in self.processes():
            process.send_signal(signal.SIGKILL)

    def states(self) -> list[str]:
        """The names of the states that it has been in, oldest first."""
        path = f"/flow_run_states/?flow_run_id={self.run['id']}"
        return [state["name"] for state in self.deployed.server.ask(path)]

    def finished(self) -> dict[str, Any]:
        """Wait until it is completed, through crashes too."""

        def completed() -> dict[str, Any] | None:
            run: dict[str, Any] = self.deployed.server.ask(f"/flow_runs/{self.run['id']}")
            assert run["state_type"] not in ("FAILED", "CANCELLED"), run["state"]["message"]
            return run if run["state_type"] == "COMPLETED" else None

        return wait_for(completed, f"the end of {self.run['name']}")

    def weights(self) -> str:
        """SHA-256 of the weights that it has trained."""
        (model,) = Store(self.store).models.oldest_first()
        return model.weights.sha256


def start_long_training(deployed: Deployed, store: Path, deployment: str = "train") -> LongTraining:
    """Start a run of a deployment that trains, with a store of its own."""
    declared = deployed.read(deployment)["job_variables"]["env"]
    run = deployed.start(
        deployment,
        parameters={**LONG, "dataset": deployed.dataset},
        job_variables={"env": {**declared, "DIGITFLOW_STORE": str(store)}},
    )
    return LongTraining(deployed, run, store)
