"""Nothing listens for others unless told, and nobody out there leads a request inside."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from dask.distributed import Client
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_SERVER_API_HOST,
    temporary_settings,
)

from digitflow.flows.cli import services
from digitflow.flows.server import server as prefect_server
from digitflow.flows.server.deploy import POOL, find_project, next_runs
from digitflow.flows.server.embedded import EmbeddedServer
from digitflow.flows.server.endpoint import Endpoint, exposure
from digitflow.flows.server.monitor import Monitor, Timeouts
from digitflow.flows.server.prefect_setup import SERVER_SETTINGS, ask_for_a_password
from digitflow.flows.server.supervisor import Supervisor
from digitflow.flows.workers import Workers
from digitflow.storage.store import Store
from digitflow.tasks.data.download import adding
from digitflow.tasks.data.download.adding import DownloadError, describe
from digitflow.tasks.data.download.addresses import Nearness, nearness
from digitflow.tasks.data.download.errors import RefusedError
from digitflow.tasks.data.download.mirrors import _safe
from tests.mnist import ROOT
from tests.patience import PATIENCE
from tests.servers.scripted import Behaviours, serving

OUTSIDE = "https://93.184.216.34/mnist/"
INSIDE = "http://10.1.2.3/mnist/"
HERE = "http://127.0.0.1:8000/mnist/"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (OUTSIDE, "file:///etc/passwd"),
        (OUTSIDE, "FILE:/etc/passwd"),
        (OUTSIDE, "ftp://93.184.216.34/x"),
        (OUTSIDE, "http://93.184.216.34/x"),
        (OUTSIDE, "//127.0.0.1/x"),
        (OUTSIDE, "https://localhost/x"),
        (OUTSIDE, "https://0.0.0.0/x"),
        (OUTSIDE, "https://[::1]/x"),
        (OUTSIDE, "https://[::ffff:127.0.0.1]/x"),
        (OUTSIDE, "https://127.1/x"),
        (OUTSIDE, "https://2130706433/x"),
        (OUTSIDE, "https://0x7f.1/x"),
        (OUTSIDE, "https://user@10.1.2.3/x"),
        (OUTSIDE, "https://192.168.0.1/x"),
        (OUTSIDE, "https://[fc00::1]/x"),
        (INSIDE, "http://127.0.0.1/x"),
        # Keys of a machine in a cloud: from nowhere.
        *(
            (url, f"http://{host}/latest/meta-data")
            for url in (INSIDE, HERE, "http://93.184.216.34/")
            for host in (
                "169.254.169.254",
                "2852039166",
                "0xa9fea9fe",
                "[fe80::1]",
                "[::ffff:169.254.169.254]",
                "[fd00:ec2::254]",
                "100.100.100.200",
                "metadata.google.internal",
                "METADATA.google.internal.",
            )
        ),
    ],
)
def test_redirects_that_lead_inside_or_to_the_open(url: str, target: str) -> None:
    with pytest.raises(RefusedError, match="redirects") as error:
        _safe(url, target)
    assert error.value.permanent


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (OUTSIDE, "https://93.184.216.35/x"),
        (OUTSIDE, "../x"),
        (INSIDE, "http://10.9.9.9/x"),
        (INSIDE, OUTSIDE),
        (HERE, "http://127.0.0.1:9000/x"),
        (HERE, INSIDE),
    ],
)
def test_redirects_that_lead_on(url: str, target: str) -> None:
    assert _safe(url, target).startswith("http")


def test_the_nearest_of_several_addresses_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (each, 0)) for each in ("93.184.216.34", "169.254.1.1")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert nearness("both.example") is Nearness.LINK_OR_METADATA


def test_a_proxy_looks_names_up_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    assert _safe(OUTSIDE, "https://localhost/x")
    with pytest.raises(RefusedError):
        _safe(OUTSIDE, "https://2852039166/x")


def test_a_dataset_without_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "MAX_FILE_BYTES", 10_000)
    with serving() as server:
        url = server.script(Behaviours.serve(bytes(5_000_000)))
        with pytest.raises(DownloadError, match="at most 10,000 bytes"):
            describe(url, "endless", folder=tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5_000_000


@pytest.mark.parametrize(
    ("host", "auth", "says"),
    [
        ("127.0.0.1", None, None),
        ("127.8.8.8", None, None),
        ("::1", None, None),
        ("localhost", None, None),
        ("0.0.0.0", None, "can run code"),  # noqa: S104 - what is warned of
        ("::", None, "can run code"),
        ("10.0.0.5", None, "can run code"),
        ("prefect.example", None, "can run code"),
        ("0.0.0.0", "user:password", "TLS"),  # noqa: S104
    ],
)
def test_a_server_beyond_loopback_is_warned_of(
    host: str, auth: str | None, says: str | None
) -> None:
    said = exposure(host, auth)
    assert says in (said or "") if says else said is None
    assert "password" not in (said or "").replace("its password", "").replace("no password", "")


@pytest.mark.parametrize("host", [None, "0.0.0.0"])  # noqa: S104
def test_the_server_that_is_started(
    host: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prefect.cli.app", lambda: None)
    monkeypatch.setattr("sys.argv", ["digitflow"])
    monkeypatch.setattr(prefect_server, "let_writers_wait", lambda: None)
    monkeypatch.setattr(prefect_server, "admit_own_pages", lambda: None)
    for name in SERVER_SETTINGS:  # set first, so that it is put back
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with temporary_settings({PREFECT_SERVER_API_HOST: host} if host else {}):
        services.server()
    assert os.environ.items() >= SERVER_SETTINGS.items()  # no telemetry, for one
    assert ("listens on 0.0.0.0" in capsys.readouterr().err) is (host is not None)


def test_the_server_of_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Mapping[str, str]] = []
    monkeypatch.setattr(
        Supervisor, "_start", lambda _self, _name, _command, env: started.append(env)
    )
    endpoint = Endpoint("http://127.0.0.1:4321/api", 4321)
    Supervisor(endpoint, {}, "mark", tmp_path).start_server()
    told = {"PREFECT_SERVER_API_HOST": "0.0.0.0", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*"}  # noqa: S104
    Supervisor(endpoint, told, "mark", tmp_path).start_server()
    assert started[0]["PREFECT_SERVER_API_HOST"] == "127.0.0.1"
    origins = started[0]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert origins == ["http://127.0.0.1:4321", "http://localhost:4321"]
    assert started[1].items() >= told.items()


@pytest.mark.prefect
def test_who_runs_on_this_machine_as_somebody_else_gets_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback is everybody's: the embedded server and the workers of a sweep ask for a key."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    ask_for_a_password()
    user, _, password = os.environ["PREFECT_API_AUTH_STRING"].partition(":")
    assert len(password) > 30
    with EmbeddedServer(verbose=False) as server:
        server.wait()
        flows = f"{server.url}/flows/filter"
        assert httpx.post(flows, json={}).status_code == 401
        assert httpx.post(flows, json={}, auth=(user, "guess")).status_code == 401
        assert httpx.post(flows, json={}, auth=(user, password)).json() == []
        strange = {"Origin": "https://evil.example", "Host": "evil.example"}
        assert httpx.post(flows, json={}, headers=strange).status_code == 401
        ask_with_the_password_and_without(server.url, tmp_path)


def ask_with_the_password_and_without(api_url: str, folder: Path) -> None:
    """What every command of ours asks the server by, and what it says where that is refused."""
    known = {
        PREFECT_API_URL: api_url,
        PREFECT_API_AUTH_STRING: os.environ["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(known), get_client(sync_client=True) as client:
        assert next_runs(find_project()) == {}
        Monitor(client, [POOL], Timeouts(), print).check()
    wrong = {"PREFECT_API_URL": api_url, "PREFECT_API_AUTH_STRING": "digitflow:canary7f3a"}
    done = subprocess.run(
        [sys.executable, "-m", "digitflow", "deploy"],
        cwd=folder,
        env={**os.environ, **wrong},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "set PREFECT_API_AUTH_STRING=user:password" in done.stderr
    assert "canary7f3a" not in done.stdout + done.stderr


def test_no_module_asks_a_prefect_server_but_by_prefects_client() -> None:
    """Which knows its password. What asks for a sign of life takes a refusal for one."""
    direct = re.compile(
        r"httpx\.(get|post|Client|request|stream)|requests\.(get|post|Session)|urlopen"
    )
    found = [
        str(path.relative_to(ROOT))
        for room in ("flows", "tasks", "storage")
        for path in (ROOT / room).rglob("*.py")
        if direct.search(path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == ["flows/server/endpoint.py", "tasks/data/download/mirrors.py"]


@pytest.mark.prefect
def test_the_workers_of_a_sweep_ask_for_a_key(tmp_path: Path) -> None:
    workers = Workers(Store(tmp_path / "store"), "run", at_most=1, count=1)
    with workers, workers._local() as runner:
        address = runner.client.scheduler.address
        # Nor do Dask's own pages, with logs and call stacks, answer anybody else.
        process = psutil.Process()
        for each in (process, *process.children(recursive=True)):
            for line in each.net_connections():
                if line.status == psutil.CONN_LISTEN:
                    assert line.laddr.ip == "127.0.0.1"
                    for page in ("metrics", "info/main/workers.html", "json/counts.json", "status"):
                        assert page_status(f"http://127.0.0.1:{line.laddr.port}/{page}") != 200
        assert address.startswith("tls://127.0.0.1:")
        assert runner.client.submit(sum, [1, 2]).result(timeout=120) == 3
        with ThreadPoolExecutor(1) as pool, pytest.raises((OSError, TypeError)):
            pool.submit(Client, address.replace("tls", "tcp"), timeout=3).result()


def page_status(url: str) -> int | None:
    """Return how a page is answered, or None if there is no web server."""
    try:
        return httpx.get(url, trust_env=False, timeout=PATIENCE).status_code
    except httpx.TransportError:
        return None
