"""After downtime one scheduled run does the work of all that were missed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Scheduled

from digitflow.flows.catch_up import _missed, skip_what_was_missed
from tests.servers.prefect_server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

NIGHTLY = {"preset": "quick"}


@flow
def night(preset: str) -> None:
    """Stand for a retraining."""
    skip_what_was_missed()


class Deployment:
    """A deployment of `night` on the server, which no worker looks at."""

    def __init__(self, name: str) -> None:
        with get_client(sync_client=True) as client:
            self.id = client.create_deployment(client.create_flow(night), name)

    def due(self, days: float, *tags: str, parameters: dict[str, Any] | None = None) -> UUID:
        """Ask for a run that is due in so many days."""
        state: Any = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=days))
        given = {"parameters": parameters or NIGHTLY, "state": state, "tags": tags}
        with get_client(sync_client=True) as client:
            return client.create_flow_run_from_deployment(self.id, **given).id


def test_what_was_missed_is_skipped_and_nothing_else(prefect_server: PrefectServer) -> None:
    nightly, other = Deployment("nightly"), Deployment("other")
    missed = [nightly.due(-days, "auto-scheduled") for days in (1, 2, 3)]
    kept = [
        nightly.due(1, "auto-scheduled"),  # tomorrow's
        nightly.due(-1),  # a person asked for it, or an event
        nightly.due(-1, "auto-scheduled", parameters={"preset": "cnn"}),
        other.due(-1, "auto-scheduled"),
    ]
    oldest = nightly.due(-4, "auto-scheduled")
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(oldest)
    run_as(run)

    def state(run: UUID) -> tuple[str, str]:
        found = prefect_server.ask(f"/flow_runs/{run}")
        return found["state_type"], found["state_name"]

    assert {state(run) for run in missed} == {("CANCELLED", "Skipped")}
    assert {state(run)[0] for run in kept} == {"SCHEDULED"}
    assert state(oldest)[0] == "COMPLETED"


@pytest.mark.parametrize("error", [ObjectNotFound(OSError("gone")), httpx.ConnectError("away")])
def test_a_verdict_stands_if_the_server_skips_nothing(
    prefect_server: PrefectServer, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    nightly = Deployment("nightly-away")
    nightly.due(-1, "auto-scheduled")
    own = nightly.due(-2, "auto-scheduled")
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(own)

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(SyncPrefectClient, "read_flow_runs", refuse)
    run_as(run)
    assert prefect_server.ask(f"/flow_runs/{own}")["state_type"] == "COMPLETED"


def test_a_run_without_a_deployment_skips_nothing() -> None:
    night("quick")


def run_as(run: Any) -> None:
    """Run the flow as a worker's process does."""
    from prefect.flow_engine import run_flow

    run_flow(night, flow_run=run, parameters=NIGHTLY)


def test_a_run_that_a_person_has_answered_is_not_missed() -> None:
    """It is scheduled again, to take the answer, and due when it first was."""
    due = datetime.now(UTC) - timedelta(days=1)
    runs = [
        FlowRun(flow_id=uuid4(), deployment_id=uuid4(), start_time=due, parameters=NIGHTLY)
        for _ in range(3)
    ]
    own, missed, answered = runs
    answered.empirical_policy.pause_keys = {"a question"}

    class Server:
        def read_flow_runs(self, **_: Any) -> list[FlowRun]:
            return [missed, answered]

    client: Any = Server()
    assert _missed(client, own) == [missed]
