"""What people and earlier nights have said is obeyed by the next, told once, and never an error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from digitflow.flows.retrain import retrain
from digitflow.storage.errors import LedgerError
from digitflow.storage.store import Store
from digitflow.tasks.gate import decide, outbox
from tests.mnist import ROOT
from tests.patience import PATIENCE, wait_for
from tests.servers.prefect_server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

SETTINGS: dict[str, Any] = {
    "dataset": "sample",
    "preset": "quick",
    "training_sample": 1_000,
    "test_sample": 400,
    "hidden_sizes": [24],
    "validation_size": 0,
    "batch_size": 32,
    "dpi": 40,
    "floor": 0.05,
    "max_class_drop": 1.0,
}
STRONG = {**SETTINGS, "epochs": 8}
WEAK = {**SETTINGS, "epochs": 1, "learning_rate": 1e-6}


def night(server: PrefectServer, settings: dict[str, Any]) -> tuple[str, str, str]:
    """Retrain; return the state, its colour, and its message."""
    state = retrain(**settings, return_state=True)
    shown = server.ask(f"/flow_runs/{state.state_details.flow_run_id}")
    colour = {"COMPLETED": "green", "FAILED": "red"}[shown["state_type"]]
    return shown["state_name"], colour, str(state.message)


def champion() -> int | None:
    model = Store().models.champion("sample")
    return None if model is None else model.version


def events(server: PrefectServer, name: str) -> list[dict[str, Any]]:
    asked = {"filter": {"event": {"name": [f"digitflow.model.{name}"]}}, "limit": 50}
    found: list[dict[str, Any]] = server.ask("/events/filter", asked)["events"]
    return found


def test_verdicts_stay(prefect_server: PrefectServer) -> None:
    models = Store().models
    # The server may have been that of other tests before.
    before = {
        each["id"] for name in outbox.EVENTS.values() for each in events(prefect_server, name)
    }

    def ours(name: str) -> list[dict[str, Any]]:
        return [each for each in events(prefect_server, name) if each["id"] not in before]

    assert night(prefect_server, STRONG)[:2] == ("Promoted", "green")
    first = night(prefect_server, WEAK)
    assert first[:2] == ("Rejected", "red")

    # Told once: the same model against the same champion is nothing new.
    again = night(prefect_server, WEAK)
    assert again[:2] == ("Unchanged", "green")
    assert "version 2 was rejected on" in again[2]
    assert "version 1 stays the champion" in again[2]
    # Under other rules it is judged again.
    assert night(prefect_server, {**WEAK, "floor": 0.06})[:2] == ("Rejected", "red")

    # What a person has taken back is not promoted again by the same data.
    models.promote(2, "by hand")
    models.promote(1, "by hand")
    models.rollback("cannot read sevens")  # to the weak one
    assert champion() == 2
    rolled_back = night(prefect_server, STRONG)
    assert rolled_back[:2] == ("Unchanged", "green")
    assert "version 1 is in quarantine" in rolled_back[2]
    assert "cannot read sevens" in rolled_back[2]
    assert champion() == 2

    # On hold, a better model is told once, in red, and does not become the champion.
    models.release("1")
    models.hold("exam week", "sample")
    held = night(prefect_server, STRONG)
    assert held[:2] == ("Held", "red")
    assert "on hold since" in held[2]
    assert "exam week" in held[2]
    assert night(prefect_server, STRONG)[:2] == ("Unchanged", "green")
    assert champion() == 2
    models.release("sample")
    assert night(prefect_server, STRONG)[:2] == ("Promoted", "green")
    assert champion() == 1

    # Automations have heard of each, by hand or not, once.
    expected = {"promoted": 4, "rejected": 2, "held": 1, "rolled-back": 1, "on-hold": 1}
    wait_for(
        lambda: all(len(ours(name)) >= n for name, n in expected.items()),
        "the events",
    )
    assert {name: len(ours(name)) for name in expected} == expected
    (event,) = ours("rolled-back")
    assert "cannot read sevens" in event["payload"]["reason"]

    # A champion that may have been another is not challenged, and the way out is named.
    for folder in ("ledger", "ledger-copies"):
        (Store().root / folder / "00000002.json").unlink()
    with pytest.raises(LedgerError, match="digitflow models promote VERSION"):
        retrain(**STRONG)
    models.promote(1, "it was this one")
    assert night(prefect_server, STRONG)[:2] == ("Unchanged", "green")


def test_a_kill_between_promotion_and_event_loses_none(
    prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {each["id"] for each in events(prefect_server, "promoted")}

    def killed(cache: Store) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(decide, "tell", killed)
        with pytest.raises(KeyboardInterrupt):
            retrain(**STRONG, return_state=True)
    assert champion() == 1
    assert night(prefect_server, STRONG)[:2] == ("Unchanged", "green")

    def new() -> set[str]:
        return {each["id"] for each in events(prefect_server, "promoted")} - before

    wait_for(new, "the event")
    # Told twice, it is still one event.
    Store().models.mark_told(0)
    assert outbox.tell(Store()) == 1
    assert outbox.tell(Store()) == 0
    assert night(prefect_server, STRONG)[:2] == ("Unchanged", "green")
    assert len(new()) == 1


def test_a_rejection_in_a_process_of_its_own_is_no_error(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """As a worker runs it: the log has neither an error nor a traceback."""
    parameters = {**STRONG, "floor": 1.0}
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(retrain, parameters=parameters)
    environment = {
        **os.environ,
        **prefect_server.environment,
        "DIGITFLOW_STORE": str(Store().root),
        "PYTHONPATH": str(ROOT),
        "PREFECT__FLOW_RUN_ID": str(run.id),
        "PREFECT__FLOW_ENTRYPOINT": "digitflow.flows.retrain.retrain",
    }
    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    shown = prefect_server.ask(f"/flow_runs/{run.id}")
    assert (shown["state_name"], shown["state_type"]) == ("Rejected", "FAILED")
    assert "is below the floor" in shown["state"]["message"]
    assert "Traceback" not in said
    assert "ERROR" not in said
    asked = {"logs": {"flow_run_id": {"any_": [str(run.id)]}, "level": {"ge_": 40}}}
    assert prefect_server.ask("/logs/filter", asked) == []
