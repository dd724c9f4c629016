"""Each deployment once to its end, as its operators start it: event, form, command."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.mnist import has_mnist, mnist_folder
from tests.patience import wait_for
from tests.servers.fixtures import TELL_OF_CHANGE, Deployed
from tests.servers.up import run_digitflow

# After the first run, which other tests want to have computed everything itself.
pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("first_run")]


def digitflow(deployed: Deployed, *arguments: str) -> Any:
    """Run a digitflow command on the worker's store; returns its JSON."""
    done = run_digitflow(deployed.server.environment, deployed.folder, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def run_to_its_end(deployed: Deployed, name: str, **parameters: Any) -> dict[str, Any]:
    started = deployed.start(name, parameters=parameters)
    return deployed.server.finished(started["id"])


@pytest.mark.data
@pytest.mark.skipif(not has_mnist(), reason=f"no MNIST files in {mnist_folder()}")
def test_an_event_retrains(deployed: Deployed) -> None:
    before = {run["id"] for run in deployed.runs("retrain-nightly")}
    done = deployed.server.prefect(*shlex.split(TELL_OF_CHANGE)[1:], folder=deployed.folder)
    assert done.returncode == 0, done.stdout + done.stderr

    def started() -> dict[str, Any] | None:
        runs = deployed.runs("retrain-nightly", "PENDING", "RUNNING", "COMPLETED", "FAILED")
        return next((run for run in runs if run["id"] not in before), None)

    run = wait_for(started, "the run that the event starts")
    assert run["created_by"]["type"] == "AUTOMATION"
    run = deployed.server.finished(run["id"])
    assert run["state_name"] in ("Promoted", "Unchanged"), run["state"]["message"]
    assert "digitflow-decision" in deployed.artifacts(run)


def test_retraining_rejects_and_the_champion_can_be_moved_by_hand(deployed: Deployed) -> None:
    common = {"dataset": deployed.dataset, "preset": "tutorial"}
    first = run_to_its_end(deployed, "retrain-nightly", **common)
    assert first["state_name"] in ("Promoted", "Unchanged"), first["state"]["message"]
    champion = digitflow(deployed, "models", "show")["version"]
    worse = run_to_its_end(deployed, "retrain-nightly", **common, epochs=1)
    assert worse["state_name"] == "Rejected", worse["state"]["message"]
    assert digitflow(deployed, "models", "show")["version"] == champion
    rejected = max(model["version"] for model in digitflow(deployed, "models"))
    for command, now in ((("promote", str(rejected)), rejected), (("rollback",), champion)):
        environment = deployed.server.environment
        done = run_digitflow(environment, deployed.folder, "models", *command)
        assert done.returncode == 0, done.stdout + done.stderr
        assert digitflow(deployed, "models", "show")["version"] == now


def test_predicting_uses_the_champion(deployed: Deployed, tmp_path: Path) -> None:
    common = {"dataset": deployed.dataset, "preset": "tutorial"}
    run_to_its_end(deployed, "retrain-nightly", **common)
    champion = digitflow(deployed, "models", "show")["version"]
    picture = Image.new("L", (28, 28))
    picture.paste(255, (12, 4, 16, 24))  # a one
    picture.save(tmp_path / "one.png")
    run = run_to_its_end(deployed, "predict-batch", pictures=str(tmp_path))
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert f"by model {champion}," in run["state"]["message"]


@pytest.mark.slow
def test_sweeping(deployed: Deployed) -> None:
    small = {"dataset": deployed.dataset, "training_sample": 1000, "validation_size": 200}
    grid = ["epochs=1,2"]
    run = run_to_its_end(deployed, "sweep-weekly", **small, grid=grid, early_stop=None)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert "digitflow-sweep" in deployed.artifacts(run)


def test_auditing(deployed: Deployed) -> None:
    run = run_to_its_end(deployed, "audit-weekly", stage="evaluate")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    rows = json.loads(deployed.artifacts(run)["digitflow-audit"]["data"])
    assert {row["verdict"] for row in rows} == {"same"}
