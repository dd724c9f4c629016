"""Who asked to be told is told: by a real server, at a real webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events import emit_event
from prefect.states import Failed

from digitflow.flows.cli.app import main
from digitflow.flows.server import alerts
from digitflow.flows.server.alerts import BLOCK, PREFIX, check_address, make_alerts
from digitflow.flows.server.endpoint import ServiceError
from tests.patience import wait_for
from tests.servers.prefect_server import PrefectServer

POOL, NIGHTLY = "alerting", "night-of-alerts"


class Receiver:
    """A web server that keeps what it is sent."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook?key=opensesame"
        self.messages: list[dict[str, str]] = []

    def of(self, words: str) -> dict[str, str] | None:
        """Return the message whose subject has these words."""
        return next((each for each in self.messages if words in each["subject"]), None)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.messages.append(json.loads(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Receiver(server.server_port)
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield kept
        server.shutdown()
        thread.join()


@pytest.fixture
def made(prefect_server: PrefectServer) -> Iterator[None]:
    """Leave no automation behind: the server is one of the whole session."""
    yield
    for each in ours(prefect_server):
        with get_client(sync_client=True) as client:
            client.delete_automation(UUID(each["id"]))


def ours(server: PrefectServer) -> list[dict[str, Any]]:
    found = server.ask("/automations/filter", {})
    return [each for each in found if each["name"].startswith(PREFIX)]


@flow
def failing() -> None:
    """Stand for a run of ours."""


def emit(event: str, **payload: Any) -> None:
    resource = {
        "prefect.resource.id": "digitflow.model.7",
        "prefect.resource.name": "digitflow model version 7",
    }
    emit_event(event, resource=resource, payload=payload)


@pytest.mark.prefect
@pytest.mark.usefixtures("on_the_server", "made")
def test_everybody_is_told_of_what_a_person_should_look_at(
    prefect_server: PrefectServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = 10 / 3600  # the least that Prefect takes
    monkeypatch.setattr(alerts, "_HOURS_WITHOUT_A_VERDICT", hours)
    told = make_alerts(receiver.url, POOL, NIGHTLY)
    assert {each["name"] for each in ours(prefect_server)} == {PREFIX + name for name in told}

    emit("digitflow.model.rejected", headline="Version 7 is rejected", version=7)
    emit("digitflow.model.promoted", headline="Version 8 is promoted", version=8)
    emit("digitflow.model.rolled-back", by="ada", reason="blurred eights")
    emit("digitflow.model.drifted", headline="Drift: the pictures differ")
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        for pool in (POOL, None):
            deployment = client.create_deployment(
                client.create_flow(failing), f"fails-in-{pool}", work_pool_name=pool
            )
            run = client.create_flow_run_from_deployment(deployment, name=f"run-in-{pool}")
            client.set_flow_run_state(run.id, Failed(message="no disk"), force=True)

    rejected = wait_for(lambda: receiver.of("Version 7 is rejected"), "the rejection")
    assert "digitflow why v7" in rejected["body"]
    by_hand = wait_for(lambda: receiver.of("digitflow.model.rolled-back"), "the rollback")
    assert by_hand["body"] == "By ada: blurred eights"
    assert wait_for(lambda: receiver.of("Drift: the pictures differ"), "the drift")
    failed = wait_for(lambda: receiver.of(f"run-in-{POOL} ended as Failed"), "the failed run")
    assert failed["body"] == "no disk"
    assert wait_for(lambda: receiver.of(f"{NIGHTLY} has come to no verdict"), "the silence")
    subjects = [each["subject"] for each in receiver.messages]
    assert not any("Version 8" in each or "run-in-None" in each for each in subjects)


@pytest.mark.prefect
@pytest.mark.usefixtures("on_the_server", "made")
def test_made_again_there_are_no_more_and_the_new_address_is_used(
    prefect_server: PrefectServer, receiver: Receiver
) -> None:
    make_alerts("mailto://ada:secret@example.org", POOL, NIGHTLY)
    once = {each["id"] for each in ours(prefect_server)}
    make_alerts(receiver.url, POOL, NIGHTLY)
    assert {each["id"] for each in ours(prefect_server)} == once
    emit("digitflow.model.held", headline="Version 7 is held", version=7)
    assert wait_for(lambda: receiver.of("Version 7 is held"), "the message")
    asked = {"block_documents": {"name": {"any_": [BLOCK]}}}
    kept = prefect_server.ask("/block_documents/filter", {**asked, "include_secrets": False})
    assert kept
    assert "opensesame" not in json.dumps(kept)
    assert "secret@" not in json.dumps(kept)
    # As the server itself has to: whoever may ask its API.
    told = prefect_server.ask("/block_documents/filter", {**asked, "include_secrets": True})
    assert "opensesame" in json.dumps(told)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "mailto://ada:secret@example.org",
        "json://127.0.0.1:8080/hook",
        "https://example.org/hook",
    ],
)
def test_addresses_that_are_taken(url: str) -> None:
    check_address(url)


@pytest.mark.parametrize(
    "url",
    [
        *("ada@example.org", "secret://pass@word", "http://", "slack://", "https://[::1/x"),
        *(" https://example.org/hook", "https://example.org/hook\n", "https://exa mple.org/h"),
        *("https://example.org:99999/x", "https://user:pass@word[x@example.org/h"),
    ],
)
def test_an_address_that_nobody_can_be_told_at_is_refused_before_any_work(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ServiceError, match="--notify: expected an Apprise URL") as refused:
        check_address(url)
    assert "pass@word" not in str(refused.value)
    for command in ("up", "deploy"):
        assert main([command, f"--notify={url}"]) != 0
        assert "--notify" in capsys.readouterr().err
