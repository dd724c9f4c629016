"""What `digitflow up` tracks its processes by, without Prefect."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from digitflow.flows.server.endpoint import DEFAULT_PORT, Endpoint, choose_endpoint
from digitflow.flows.server.pidfile import Pidfile, UpRecord
from digitflow.flows.server.process import MARK, end, last_lines, marked, start, start_time
from digitflow.flows.server.supervisor import shut_down
from tests.patience import PATIENCE, wait_for

# A service that starts a run in a session of its own, says so, and waits.
SERVICE = f"""
import os, subprocess, sys, time
run = {{**os.environ, "PREFECT__FLOW_RUN_ID": "a-run"}}
nap = [sys.executable, "-c", "import time; time.sleep({PATIENCE})"]
child = subprocess.Popen(nap, env=run, start_new_session=True)
print(child.pid, flush=True)
time.sleep({PATIENCE})
"""


def start_service(folder: Path, mark: str) -> "tuple[subprocess.Popen[bytes], int]":
    log = folder / "service.log"
    command = [sys.executable, "-c", SERVICE]
    environment = {**os.environ, MARK: f"{mark} worker-1"}
    service = start(command, folder=folder, environment=environment, log=log)
    return service, int(wait_for(lambda: log.read_text().strip(), "the service's run"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_run_is_found_when_its_worker_is_gone(tmp_path: Path) -> None:
    """It lives in a session of its own, and nobody is its parent any more."""
    service, run = start_service(tmp_path, "one")
    assert {each.pid: each.run for each in marked("one")} == {service.pid: None, run: "a-run"}
    end([service.pid], signal.SIGKILL, PATIENCE)
    service.wait(PATIENCE)
    assert [(each.pid, each.service, each.run) for each in marked("one")] == [
        (run, "worker-1", "a-run")
    ]
    end([run], signal.SIGKILL, PATIENCE)
    assert marked("one") == []


def test_taking_down_ends_what_has_the_mark_and_nothing_else(tmp_path: Path) -> None:
    ours, our_run = start_service(tmp_path, "ours")
    (tmp_path / "other").mkdir()
    others, other_run = start_service(tmp_path / "other", "others")
    try:
        # No server answers at the discard port: there is nobody to hand the run back to.
        record = UpRecord("ours", "http://127.0.0.1:9/api", None, os.getpid(), 0.0)
        assert shut_down(record) == 0
        assert not psutil.pid_exists(our_run) or psutil.Process(our_run).status() == "zombie"
        ours.wait(PATIENCE)
        assert {each.pid for each in marked("others")} == {others.pid, other_run}
    finally:
        end([others.pid, other_run], signal.SIGKILL, PATIENCE)
        others.wait(PATIENCE)


def test_a_number_of_a_process_that_is_gone() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert start_time(gone.pid) is None
    assert start_time(os.getpid()) == psutil.Process().create_time()
    end([gone.pid], signal.SIGKILL, 1)  # as good as done


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 10_000_001)
    nothing = start([sys.executable, "-c", ""], folder=tmp_path, environment=os.environ, log=log)
    assert nothing.wait(PATIENCE) == 0
    assert (tmp_path / "log.old").stat().st_size == 10_000_001
    log.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert last_lines(log, 2) == "two\nthree"


class TestPidfile:
    def test_what_was_saved(self, home: Path) -> None:
        record = UpRecord("mark", "http://127.0.0.1:4200/api", 4200, 1, 2.5)
        Pidfile().save(record)
        assert Pidfile().load() == record
        assert record.ui_url == "http://127.0.0.1:4200"
        Pidfile().remove()
        Pidfile().remove()
        assert Pidfile().load() is None

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": "only"}', "\x00"])
    def test_a_damaged_file_is_none(self, home: Path, text: str) -> None:
        records = Pidfile()
        (home / "digitflow-up" / "up.json").write_text(text, encoding="utf-8")
        assert records.load() is None

    def test_one_holder_at_a_time(self, home: Path) -> None:
        assert Pidfile().folder == home / "digitflow-up"
        take = (
            "import sys; from digitflow.flows.server.pidfile import Pidfile; "
            "sys.exit(Pidfile().take())"
        )
        first = Pidfile()
        assert first.take()
        assert subprocess.run([sys.executable, "-c", take]).returncode == 0  # False: it is taken
        del first


class TestEndpoint:
    @pytest.fixture(autouse=True)
    def nobody(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("digitflow.flows.server.endpoint.answers", lambda url: False)
        monkeypatch.setattr("digitflow.flows.server.endpoint._is_free", lambda port: True)

    def test_the_usual_port(self) -> None:
        assert choose_endpoint(None) == Endpoint(
            f"http://127.0.0.1:{DEFAULT_PORT}/api", DEFAULT_PORT
        )

    def test_another_port(self) -> None:
        assert choose_endpoint(4300) == Endpoint("http://127.0.0.1:4300/api", 4300)

    def test_the_port_of_a_server_that_is_named_and_not_there_yet(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A terminal with the variable that the last `up` told of starts the next one too."""
        monkeypatch.setenv("PREFECT_API_URL", "http://localhost:4301/api/")
        assert choose_endpoint(None) == Endpoint("http://127.0.0.1:4301/api", 4301)

    def test_a_server_that_is_named_and_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PREFECT_API_URL", "https://server.example/api/")
        monkeypatch.setattr("digitflow.flows.server.endpoint.answers", lambda url: True)
        assert choose_endpoint(None) == Endpoint("https://server.example/api", None)
