"""A run that asks a person: on a real server, in processes as a worker starts them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from digitflow.flows.retrain import retrain
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from tests.flows.test_verdicts import STRONG
from tests.mnist import ROOT
from tests.patience import PATIENCE
from tests.servers.prefect_server import PrefectServer, running_server
from tests.servers.processes import free_port
from tests.servers.up import run_digitflow

pytestmark = pytest.mark.prefect

MIDDLING = {**STRONG, "epochs": 1, "approval": "always"}


def test_a_person_decides(tmp_path: Path) -> None:
    """In the form, after the server has been restarted; and, another night, in the terminal."""
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    port = free_port()
    with running_server(home, port=port) as server:
        store = Store(Path(server.environment["DIGITFLOW_STORE"]))
        deployment = deploy(server)
        first = start(server, deployment, MIDDLING)
        work(server, first, here)
        waiting = server.ask(f"/flow_runs/{first}")
        assert (waiting["state_type"], waiting["state_name"]) == ("PAUSED", "Suspended")
        assert champion(store) is None
        question = store.models.state().asked_by(first)
        assert question is not None
        assert "passed the gate and waits for a person's verdict" in question.details["headline"]
        # What the form says, and what is beside it.
        keys = waiting["state"]["state_details"]["run_input_keyset"]
        assert question.details["headline"] in server.ask(
            f"/flow_runs/{first}/input/{keys['description']}"
        )
        assert decisions(server, first) == [question.details["headline"]]

    with running_server(home, port=port) as server:
        refused = resume(server, first, {"verdict": "perhaps", "reason": "?", "name": "ann"})
        assert refused["status"] == "REJECT"
        said = {"verdict": "promote", "reason": "reads sevens", "name": "ann"}
        assert resume(server, first, said)["status"] == "ACCEPT"
        work(server, first, here)
        promoted = server.ask(f"/flow_runs/{first}")
        assert (promoted["state_name"], "promoted" in promoted["tags"]) == ("Promoted", True)
        assert "approved by ann in the Prefect UI: reads sevens" in promoted["state"]["message"]
        assert len(decisions(server, first)) == 2
        now = champion(store)
        assert now is not None
        assert now.version == 1
        assert store.models.moves("sample")[-1].why.startswith("passed the gate in run")

        second = start(server, deployment, {**STRONG, "approval": "always"})
        work(server, second, here)
        assert server.ask(f"/flow_runs/{second}")["state_name"] == "Suspended"
        reject = ("models", "reject", "2", "--why", "too fat")
        done = run_digitflow({**server.environment, "PYTHONPATH": str(ROOT)}, here, *reject)
        assert done.returncode == 0, done.stderr
        assert server.ask(f"/flow_runs/{second}")["state_name"] == "Resuming"
        work(server, second, here)
        rejected = server.ask(f"/flow_runs/{second}")
        assert (rejected["state_type"], rejected["state_name"]) == ("FAILED", "Rejected")
        assert "too fat" in rejected["state"]["message"]
        assert champion(store) == now


def deploy(server: PrefectServer) -> str:
    """Make a deployment of the flow, which alone can be suspended; return its id."""
    with (
        temporary_settings({PREFECT_API_URL: f"{server.url}/api"}),
        get_client(sync_client=True) as client,
    ):
        flow = client.create_flow(retrain)
        entrypoint = "digitflow.flows.retrain.retrain"
        return str(client.create_deployment(flow, "nightly", entrypoint=entrypoint))


def start(server: PrefectServer, deployment: str, parameters: dict[str, Any]) -> str:
    path = f"/deployments/{deployment}/create_flow_run"
    run = server.ask(path, {"parameters": parameters, "state": {"type": "SCHEDULED"}})
    return str(run["id"])


def work(server: PrefectServer, run: str, folder: Path) -> None:
    """Run a flow run in a process that ends, as a worker does."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine"],
        env={
            **server.environment,
            "PYTHONPATH": str(ROOT),
            "PREFECT__FLOW_RUN_ID": run,
            "PREFECT__FLOW_ENTRYPOINT": "digitflow.flows.retrain.retrain",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Traceback" not in said


def resume(server: PrefectServer, run: str, said: dict[str, str]) -> dict[str, Any]:
    """Answer as the form in the UI does."""
    answer: dict[str, Any] = server.ask(f"/flow_runs/{run}/resume", {"run_input": said})
    return answer


def decisions(server: PrefectServer, run: str) -> list[str]:
    asked = {"flow_run_id": {"any_": [run]}, "key": {"any_": ["digitflow-decision"]}}
    found = server.ask("/artifacts/filter", {"artifacts": asked, "sort": "CREATED_DESC"})
    return [each["description"] for each in found]


def champion(store: Store) -> ModelVersion | None:
    return store.models.champion("sample")
