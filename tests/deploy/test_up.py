"""`digitflow up` and `down`: a new home, one command, and everything gone afterwards."""

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from websockets import Origin
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.patience import PATIENCE, wait_for
from tests.servers.fixtures import copy_project
from tests.servers.long_training import start_long_training
from tests.servers.prefect_server import environment_of
from tests.servers.processes import free_port
from tests.servers.up import Up, run_digitflow, running_up

pytestmark = pytest.mark.prefect


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def up(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("home"), project, free_port()) as up:
        yield up


class TestUp:
    def test_says_where_it_is_and_when_it_runs(self, up: Up) -> None:
        screen = up.screen.read_text(encoding="utf-8")
        assert f"digitflow is up: {up.deployed.server.url}\n" in screen
        assert re.search(r"^train +on demand *$", screen, re.MULTILINE)
        nightly = r"^retrain-nightly +\w{3} \d\d \w{3} 04:15 Europe/London *$"
        assert re.search(nightly, screen, re.MULTILINE)
        assert f"export PREFECT_API_URL={up.deployed.server.url}/api" in screen
        assert "bin/prefect deployment run digitflow/train --param epochs=5 --watch\n" in screen
        paths = [line for line in screen.splitlines() if ".log" in line]
        assert all(Path(line.removeprefix("Logs:").strip()).is_file() for line in paths)
        assert len(paths) == 4  # the server's, two workers', and the monitor's
        assert all(len(line) <= 80 for line in screen.splitlines() if "/" not in line)

    def test_deployments_are_those_of_the_project(self, up: Up) -> None:
        for name in ("train", "retrain-nightly"):
            steps = up.deployed.read(name)["pull_steps"]
            (step,) = [values for each in steps for values in each.values()]
            assert step["directory"] == "."
        assert up.deployed.runs("retrain-nightly", "SCHEDULED")

    def test_its_user_interface_asks_its_own_port(self, up: Up) -> None:
        settings = requests.get(f"{up.deployed.server.url}/ui-settings", timeout=PATIENCE).json()
        assert settings["api_url"] == f"{up.deployed.server.url}/api"

    def test_pages_of_other_sites_get_nowhere(self, up: Up) -> None:
        """Not by a request that needs no preflight, by a name of theirs, or by a WebSocket."""
        url = up.deployed.server.url
        train = up.deployed.read("train")["id"]
        starts = f"{url}/api/deployments/{train}/create_flow_run"
        evil = {"Origin": "https://evil.example"}
        for headers in (evil, {"Host": f"evil.example:{urlsplit(url).port}"}):
            # A blob: Prefect takes what names no type for JSON.
            refused = requests.post(starts, data=b"{}", headers=headers, timeout=PATIENCE)
            assert refused.status_code == 403
            assert "expected a request " in refused.json()["detail"]
        assert up.deployed.runs("train", "SCHEDULED") == []
        own = {"Origin": url}
        flows = f"{url}/api/flows/filter"
        assert requests.post(flows, json={}, headers=own, timeout=PATIENCE).status_code == 200
        events = f"{url.replace('http', 'ws')}/api/events/in"
        connect(events, origin=Origin(url), open_timeout=PATIENCE).close()
        with pytest.raises(InvalidStatus, match="403"):
            connect(events, origin=Origin(evil["Origin"]), open_timeout=PATIENCE)

    def test_twice_says_that_it_is_up(self, up: Up) -> None:
        again = up.digitflow("up")
        assert again.returncode == 0
        assert again.stdout.startswith(f"digitflow is up already: {up.deployed.server.url} ")

    def test_a_server_of_somebody_else_is_used_and_left_alone(
        self, up: Up, project: Path, tmp_path: Path
    ) -> None:
        server = up.deployed.server
        before = {each.pid for each in up.processes()}
        with running_up(tmp_path, project, free_port(), foreign=server) as other:
            assert "The server ran before, and is left alone." in other.screen.read_text()
            names = [" ".join(each.cmdline()) for each in other.processes()]
            assert len(names) == 2
            assert any("worker start --pool digitflow" in name for name in names)
            assert any("digitflow monitor --pool digitflow" in name for name in names)
            other.end(signal.SIGINT)
            assert other.processes() == []
        assert server.is_there()
        assert {each.pid for each in up.processes()} == before

    def test_a_server_of_somebody_else_keeps_its_port(self, up: Up, tmp_path: Path) -> None:
        elsewhere = {"PREFECT_HOME": str(tmp_path)}
        port = str(up.deployed.server.url.rpartition(":")[2])
        refused = up.digitflow("up", "--port", port, **elsewhere)
        assert refused.returncode == 1
        assert "a Prefect server already that digitflow did not start" in _text(refused.stderr)
        assert f"PREFECT_API_URL={up.deployed.server.url}/api digitflow up" in _text(refused.stderr)
        both = up.digitflow(
            *("up", "--port", "1"), PREFECT_API_URL=f"{up.deployed.server.url}/api", **elsewhere
        )
        assert both.returncode == 1
        assert "Leave --port out" in _text(both.stderr)
        assert up.digitflow("down", **elsewhere).returncode == 0
        assert up.deployed.server.is_there()

    def test_a_run_killed_with_its_worker_goes_on_by_itself(self, up: Up, tmp_path: Path) -> None:
        """`kill -9` of both in mid-training; nobody does anything; the model is the same."""
        undisturbed = start_long_training(up.deployed, tmp_path / "undisturbed")
        killed = start_long_training(up.deployed, tmp_path / "killed")
        killed.wait_for_epochs()
        killed.kill_with_its_worker()
        undisturbed.finished()
        run = killed.finished()
        assert run["run_count"] == 2
        assert killed.states()[3:6] == ["Running", "Crashed", "AwaitingRetry"]
        assert killed.weights() == undisturbed.weights()
        assert re.search(r"worker-\d: ended with -9", up.screen.read_text(encoding="utf-8"))

    def test_a_server_killed_during_a_run_loses_nothing(self, up: Up, tmp_path: Path) -> None:
        training = start_long_training(up.deployed, tmp_path / "store")
        training.wait_for_epochs()
        up.server().send_signal(signal.SIGKILL)
        wait_for(lambda: not up.deployed.server.is_there(), "the server's end")
        wait_for(up.deployed.server.is_there, "the server's return")
        run = training.finished()
        assert training.states()[-2:] == ["Running", "Completed"]
        assert run["run_count"] == 1
        assert "digitflow-report" in up.deployed.artifacts(run)


def test_ctrl_c_ends_everything_and_the_next_one_goes_on(project: Path, tmp_path: Path) -> None:
    port = free_port()
    home = tmp_path / "home"
    home.mkdir()
    with running_up(home, project, port) as up:
        training = start_long_training(up.deployed, tmp_path / "store")
        training.wait_for_epochs()
        screen = up.end(signal.SIGINT)
        assert "1 run goes on from the last epoch with the next digitflow up" in screen
        assert up.process.returncode == 0
        assert up.processes() == []
        _assert_free(port)
    with running_up(home, project, port) as up:
        training.finished()
        assert training.states()[-5:] == [
            *("AwaitingRetry", "Pending", "Submitting", "Running", "Completed")
        ]
        # Killed, it leaves what it had started; `down` clears it away, and nothing else.
        stranger = psutil.Process(os.getpid())
        left = up.processes()
        up.end(signal.SIGKILL)
        assert [each.pid for each in left if each.is_running()]
        down = up.digitflow("down")
        assert down.returncode == 0
        assert down.stdout == "down: everything that digitflow up had started has ended\n"
        assert up.processes() == []
        assert stranger.is_running()
        _assert_free(port)
        again = up.digitflow("down")
        assert again.stdout.startswith("nothing to do")


class TestRefusals:
    def test_a_port_that_another_program_has(self, tmp_path: Path) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            environment = environment_of(tmp_path, port)
            del environment["PREFECT_API_URL"]
            done = run_digitflow(environment, tmp_path, "up", "--port", str(port))
        assert done.returncode == 1
        assert f"port {port} is in use by another program" in _text(done.stderr)

    def test_a_server_elsewhere_that_does_not_answer(self, tmp_path: Path) -> None:
        environment = environment_of(tmp_path, 1)
        environment["PREFECT_API_URL"] = "http://nowhere.invalid:4200/api"
        done = run_digitflow(environment, tmp_path, "up")
        assert done.returncode == 1
        assert "which does not answer" in _text(done.stderr)

    def test_deploying_nowhere(self, tmp_path: Path) -> None:
        environment = environment_of(tmp_path, 1)
        del environment["PREFECT_API_URL"]
        done = run_digitflow(environment, tmp_path, "deploy")
        assert done.returncode == 1
        assert "expected the URL of a Prefect server in PREFECT_API_URL" in _text(done.stderr)

    def test_a_digitflow_without_its_deployments(self, tmp_path: Path) -> None:
        folder = copy_project(tmp_path)
        (folder / "prefect.yaml").unlink()
        environment = {**environment_of(tmp_path, 1), "PYTHONPATH": str(folder)}
        done = run_digitflow(environment, folder, "up")
        assert done.returncode == 1
        assert "expected the deployments of digitflow in" in _text(done.stderr)
        assert "restore it from the repository" in _text(done.stderr)


def _assert_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def _text(wrapped: str) -> str:
    """Undo the wrapping of a message at the terminal's width."""
    return " ".join(wrapped.split())
