"""The server of one run: waited for, started again when it dies, given up after four times."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from digitflow.flows.server.embedded import EmbeddedServer, EmbeddedServerError
from digitflow.flows.server.endpoint import answers
from tests.patience import PATIENCE, wait_for
from tests.servers.processes import running
from tests.servers.scripted import Behaviours, ScriptedServer, serving
from tests.servers.up import DIGITFLOW
from tests.walk import TINY, write_dataset


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return tmp_path / "prefect"


@pytest.fixture
def listening() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


def servers_of(home: Path) -> list[psutil.Process]:
    """The embedded servers that run with this home."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("PREFECT_HOME") == str(home)
            if ours and "digitflow.flows.server.server" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_the_server(home: Path) -> None:
    """Kill it as soon as there is one, and see it go."""

    def found() -> list[psutil.Process]:
        return servers_of(home)

    (server,) = wait_for(found, "the embedded server")
    server.kill()
    # Not waited for: whoever has started it wants to know how it ended.
    wait_for(lambda: not servers_of(home), "its end")


def test_another_that_starts_for_ever_is_not_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitflow.flows.server.embedded._SECONDS_UNTIL_SAID", 0.05)
    monkeypatch.setattr("digitflow.flows.server.embedded._SECONDS_FOR_OTHERS", 0.1)
    said: list[str] = []
    server = EmbeddedServer(verbose=False, say=said.append)
    with (
        FileLock(home / "digitflow-server.lock"),
        pytest.raises(EmbeddedServerError, match="digitflow-server.lock locked. End it if it"),
        server,
    ):
        pytest.fail("expected an error")
    assert said == ["waiting for another digitflow that is starting Prefect"]


def test_one_that_dies_too_often_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    lost = threading.Event()
    server = EmbeddedServer(verbose=False, say=said.append, on_loss=lost.set)
    monkeypatch.setattr(server, "_wait_for_answer", lambda: None)  # it dies before
    with server:
        server.wait()
        for _ in range(4):
            server.check()
            kill_the_server(home)
        assert lost.wait(PATIENCE)
        with pytest.raises(EmbeddedServerError, match="ended 4 times, the last time with -9; its"):
            server.check()
    assert [re.sub(r" Its log is .*", "", text) for text in said] == [
        f"Prefect's embedded server ended with -9; starting it again ({start} of 4)."
        for start in (2, 3, 4)
    ]
    assert servers_of(home) == []


@pytest.mark.prefect
def test_a_run_whose_server_dies_goes_on(tmp_path: Path, home: Path) -> None:
    dataset = write_dataset(tmp_path / "tiny")
    settings = {**TINY, "epochs": 3000}
    command = [*DIGITFLOW, "run", "--dataset", str(dataset)]
    command += ["--set", *(f"{name}={value}" for name, value in settings.items())]
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "DIGITFLOW_STORE": str(tmp_path / "store"),
        "COLUMNS": "200",
    }
    screen = tmp_path / "screen"
    with running(command, folder=tmp_path, environment=environment, log=screen) as process:

        def under_way() -> bool:
            assert process.poll() is None, screen.read_text()
            return "decode-test-images" in screen.read_text()

        wait_for(under_way, "the first stages")
        kill_the_server(home)
        assert process.wait(PATIENCE) == 0, screen.read_text()
    said = screen.read_text()
    assert "Prefect's embedded server ended with -9; starting it again (2 of 4)" in said
    assert "Stages: 13 ran, 0 cached" in said
    assert servers_of(home) == []


@pytest.mark.parametrize("reply", ["drips", "stalls"])
def test_what_answers_by_drops_is_no_server(listening: ScriptedServer, reply: str) -> None:
    """Time-outs count from the last byte; whoever asks counts from the question."""
    start = b"HTTP/1.1 200 OK\r\nX-Slow: "
    listening.script(Behaviours.drip(start) if reply == "drips" else Behaviours.stall())
    assert not answers(listening.url, seconds=0.5)


def test_one_that_does_not_end_when_it_is_told_is_killed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digitflow.flows.server.embedded._SECONDS_TO_END", 0.5)
    server = EmbeddedServer(verbose=False)
    monkeypatch.setattr(server, "_wait_for_answer", lambda: None)
    with server:
        server.wait()
        (process,) = wait_for(lambda: servers_of(home), "the embedded server")
        process.suspend()  # it hears of nothing any more
    assert servers_of(home) == []
