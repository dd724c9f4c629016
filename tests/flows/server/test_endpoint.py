"""No proxy is asked for this machine, and every proxy still for others."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import requests
from websockets.asyncio.client import connect
from websockets.sync.server import serve

from digitflow.flows.server.endpoint import ServiceError, answers, bypass_proxies, is_this_machine
from tests.patience import PATIENCE
from tests.servers.processes import free_port, python
from tests.servers.proxy import Proxy, running_proxy
from tests.walk import TINY, write_dataset

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY")
EVERY = [*VARIABLES, *(name.lower() for name in VARIABLES)]
ELSEWHERE = "http://mirror.invalid/"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("files") / "tiny")


@pytest.fixture
def proxy(files: Path) -> Iterator[Proxy]:
    with running_proxy(files) as proxy:
        yield proxy


@pytest.fixture
def server() -> Iterator[str]:
    """Something that answers as a Prefect server does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"true")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts variables into the environment of this process, in which none speaks of proxies."""

    def put(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


def ask_with_every_client(url: str) -> None:
    """Ask as Prefect's client, the downloads and Prefect's events do."""
    assert answers(url)
    assert httpx.get(url).json() is True
    assert requests.get(url, timeout=PATIENCE).json() is True

    async def greet(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}", open_timeout=PATIENCE) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"

    with serve(lambda socket: socket.send(socket.recv()), "127.0.0.1", 0) as listener:
        thread = Thread(target=listener.serve_forever)
        thread.start()
        asyncio.run(greet(listener.socket.getsockname()[1]))
        listener.shutdown()
        thread.join()


@pytest.mark.parametrize("variable", EVERY)
def test_this_machine_is_asked_directly(
    environment: Callable[..., None], proxy: Proxy, server: str, variable: str
) -> None:
    environment(**{variable: proxy.url})
    bypass_proxies()
    ask_with_every_client(server)
    assert proxy.asked == []


@pytest.mark.parametrize(
    "known",
    [
        {"NO_PROXY": "corp.example"},
        {"no_proxy": "corp.example"},
        {"NO_PROXY": "corp.example", "no_proxy": ""},
        {"NO_PROXY": " corp.example , 10.0.0.0/8,,[::1]"},
        {"NO_PROXY": "other.example", "no_proxy": "corp.example"},
    ],
)
def test_what_is_named_already_is_kept(
    environment: Callable[..., None], proxy: Proxy, server: str, known: dict[str, str]
) -> None:
    environment(HTTP_PROXY=proxy.url, https_proxy=proxy.url, ALL_PROXY=proxy.url, **known)
    bypass_proxies()
    for name, value in known.items():
        kept = {each.strip().strip("[]") for each in value.split(",")} - {""}
        assert kept <= set(os.environ[name].split(","))
    assert "corp.example" in os.environ["no_proxy"]
    before = os.environ["no_proxy"], os.environ["NO_PROXY"]
    bypass_proxies()
    assert (os.environ["no_proxy"], os.environ["NO_PROXY"]) == before
    ask_with_every_client(server)
    assert proxy.asked == []


def test_others_are_asked_through_the_proxy(
    environment: Callable[..., None], proxy: Proxy, files: Path
) -> None:
    environment(HTTP_PROXY=proxy.url, NO_PROXY="corp.example")
    bypass_proxies()
    name = next(files.iterdir()).name
    assert requests.get(ELSEWHERE + name, timeout=PATIENCE).content == (files / name).read_bytes()
    assert proxy.asked == [ELSEWHERE + name]


@pytest.mark.parametrize("listed", ["*", " *", "corp.example,*"])
def test_where_nobody_is_asked_through_a_proxy_that_stays(
    environment: Callable[..., None], proxy: Proxy, server: str, listed: str
) -> None:
    environment(HTTP_PROXY=proxy.url, ALL_PROXY=proxy.url, NO_PROXY=listed)
    bypass_proxies()
    with pytest.raises(requests.ConnectionError):
        requests.get(ELSEWHERE, timeout=PATIENCE)
    with pytest.raises(httpx.ConnectError):
        httpx.get(ELSEWHERE, timeout=PATIENCE)
    ask_with_every_client(server)
    assert proxy.asked == []


def test_nothing_is_touched_without_a_proxy(environment: Callable[..., None]) -> None:
    environment(NO_PROXY="corp.example", http_proxy="")
    bypass_proxies()
    assert os.environ["NO_PROXY"] == "corp.example"
    assert "no_proxy" not in os.environ


@pytest.mark.parametrize("host", ["127.0.0.2", "0.0.0.0", "prefect.localhost"])
def test_a_server_on_loopback_by_another_name(
    environment: Callable[..., None], proxy: Proxy, server: str, host: str
) -> None:
    url = server.replace("127.0.0.1", host)
    environment(HTTP_PROXY=proxy.url, PREFECT_API_URL=f"{url}/api")
    bypass_proxies()
    assert host in os.environ["NO_PROXY"].split(",")
    with suppress(httpx.ConnectError):  # it listens on one address, and the name may not resolve
        assert httpx.get(url).json() is True
    assert proxy.asked == []


def test_settings_that_cannot_be_read_are_no_business_of_proxies(
    environment: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prefect.toml").write_text("api = [")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    environment(HTTP_PROXY="http://127.0.0.1:9")
    bypass_proxies()
    assert "127.0.0.1" in os.environ["NO_PROXY"]


WRONG_PROXIES = ["garbage://127.0.0.1:9", "socks4://127.0.0.1:9", "http://127.0.0.1:port"]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("wrong", WRONG_PROXIES)
def test_a_proxy_that_is_none_is_said_at_once(
    environment: Callable[..., None], server: str, variable: str, wrong: str
) -> None:
    environment(**{variable: wrong.replace("//", "//user:secret@")})
    bypass_proxies()
    with pytest.raises(ServiceError, match=f"{variable.upper()}: expected the URL of a") as error:
        answers(f"{server}/api")
    assert "secret" not in str(error.value)


@pytest.mark.prefect
def test_a_run_says_which_proxy_is_none(tmp_path: Path, files: Path) -> None:
    environment = everything_through("garbage://x", tmp_path)
    done = run_digitflow(tmp_path, environment, "run", "--dataset", str(files), "--until", "decode")
    assert done.returncode == 1
    assert "_PROXY: expected the URL of a proxy" in done.stderr


def test_which_hosts_are_this_machine() -> None:
    ours = ("localhost", "127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::", "a.localhost")
    assert all(map(is_this_machine, ours))
    assert not any(map(is_this_machine, ("10.0.0.1", "localhost.example", "fe80::1", "")))


def everything_through(proxy: str, home: Path) -> Mapping[str, str]:
    """An environment in which every variable names a proxy, and `NO_PROXY` none of ours."""
    return {
        **os.environ,
        **dict.fromkeys(EVERY, proxy),
        "NO_PROXY": "corp.example",
        "PREFECT_HOME": str(home / "prefect"),
        "DIGITFLOW_STORE": str(home / "store"),
        "COLUMNS": "200",
    }


def run_digitflow(
    home: Path, environment: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return python("-m", "digitflow", *arguments, folder=home, environment=environment)


SETTINGS = [f"{name}={value}" for name, value in TINY.items()]


@pytest.mark.prefect
def test_a_run_downloads_through_the_proxy_and_asks_its_server_directly(
    tmp_path: Path, proxy: Proxy, files: Path
) -> None:
    # The plan knows the files by their digests; they are to be had at the mirror alone.
    known = tmp_path / "known"
    shutil.copytree(files, known)
    environment = everything_through(proxy.url, tmp_path)
    arguments = ["--dataset", str(known), "--mirror", ELSEWHERE, "--set", *SETTINGS]
    done = run_digitflow(tmp_path, environment, "run", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.hosts == {"mirror.invalid"}
    assert {each.rpartition("/")[2] for each in proxy.asked} == {
        file.name for file in files.iterdir()
    }


@pytest.mark.prefect
@pytest.mark.parametrize("names", [("HTTP_PROXY", "ALL_PROXY"), ("http_proxy", "all_proxy")])
def test_a_proxy_that_nobody_listens_at_is_no_obstacle(
    tmp_path: Path, files: Path, names: tuple[str, ...]
) -> None:
    """With the data at hand, nothing but the embedded server is asked."""
    everything = everything_through(f"http://127.0.0.1:{free_port()}", tmp_path)
    others = {*EVERY, "NO_PROXY"} - {*names}
    environment = {name: text for name, text in everything.items() if name not in others}
    arguments = ["--dataset", str(files), "--until", "decode"]
    done = run_digitflow(tmp_path, environment, "run", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starting Prefect" in done.stdout + done.stderr


@pytest.mark.prefect
def test_the_workers_of_a_sweep_ask_the_server_directly(
    tmp_path: Path, proxy: Proxy, files: Path
) -> None:
    settings = [each for each in SETTINGS if not each.startswith("epochs")]
    arguments = ["--dataset", str(files), "--preset", "quick", "--grid", "epochs=1,2"]
    environment = everything_through(proxy.url, tmp_path)
    done = run_digitflow(tmp_path, environment, "sweep", *arguments, "--set", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.asked == []


@pytest.mark.skipif(
    importlib.util.find_spec("socksio") is None, reason="socksio is not installed here"
)
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_a_socks_proxy_is_no_obstacle_on_loopback(
    environment: Callable[..., None], server: str, scheme: str
) -> None:
    environment(ALL_PROXY=f"{scheme}://127.0.0.1:9")  # nobody listens on the discard port
    bypass_proxies()
    ask_with_every_client(server)
