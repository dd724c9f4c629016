"""What lets somebody in is left nowhere: canaries where it is given, and a search after runs."""

import io
import json
import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from psutil import NoSuchProcess, Process

from digitflow.flows.cli.app import main
from digitflow.flows.server.endpoint import ServiceError, choose_endpoint
from digitflow.flows.server.pidfile import Pidfile, UpRecord
from digitflow.flows.spec import RunOptions, handing_on
from digitflow.flows.sweep import winners_command
from digitflow.storage.backends.atomic import make_folder, write_bytes
from digitflow.storage.backends.remote import Remote
from digitflow.storage.errors import SharedStoreError
from digitflow.storage.visible import redacted, shown_url
from digitflow.tasks.data.datasets.manifest import write_manifest
from digitflow.tasks.data.datasets.places import check_place
from digitflow.tasks.data.datasets.sources import DatasetError, from_directory
from tests.patience import wait_for
from tests.servers.fixtures import copy_project
from tests.servers.prefect_server import PREFECT
from tests.servers.processes import free_port, python, running
from tests.servers.scripted import Behaviours, Handler, serving
from tests.servers.up import DIGITFLOW, running_up
from tests.walk import TINY, write_dataset

CANARY = "canary7f3a"


def secret_url(url: str) -> str:
    return url.replace("://", f"://user:{CANARY}@") + f"?token={CANARY}#{CANARY}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"at https://u:{CANARY}@host:1/a?sig={CANARY}&b=1 (x)", "at https://host:1/a?… (x)"),
        (f"Max retries exceeded with url: /a/b?token={CANARY} (Caused", None),
        (f"Client error for url 'http://{CANARY}@h/api/flows'", "Client error for url 'http://h/api/flows'"),
        (f"postgresql+asyncpg://digitflow:{CANARY}@db/prefect", "postgresql+asyncpg://db/prefect"),
        ("is it there? a=b, a@b.c", "is it there? a=b, a@b.c"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
    ],
)  # fmt: skip
def test_texts_with_urls(text: str, shown: str | None) -> None:
    assert CANARY not in redacted(text)
    assert shown in (None, redacted(text))
    assert CANARY not in shown_url(secret_url("https://host/path"))


@pytest.mark.parametrize(
    "place",
    [
        f"http://user:{CANARY}/x@host/",
        f"http://user:{CANARY}@host:{CANARY}/",
        f"http://user:{CANARY}\u2100@host/",
        f"http://[user:{CANARY}@host/",
        f"file://user:{CANARY}@host/x",
        f"ftp://user:{CANARY}@host/x?{CANARY}",
        f"https:user:{CANARY}@host",
    ],
)
def test_a_mirror_that_is_none_is_refused_without_its_password(place: str) -> None:
    with pytest.raises(DatasetError) as error:
        check_place(place)
    assert CANARY not in str(error.value)


def test_what_prefect_is_told_of_a_mirror(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    sizes = {"training_sample": 0, "test_sample": 0}
    options = RunOptions(dataset=str(data), mirror=secret_url("http://host/mnist"), overrides=sizes)
    spec = options.spec()
    assert spec.mirrors[0] == options.mirror
    parameters = options.flow_parameters()
    assert parameters["mirror"] == "http://host/mnist"
    # The flow finds the mirror with its password all the same.
    with handing_on(spec):
        given = replace(options, mirror=parameters["mirror"])
        assert given.spec() is spec
    assert CANARY not in winners_command_of(options)


def winners_command_of(options: RunOptions) -> str:
    from digitflow.tasks.parameters import resolve
    from digitflow.tasks.sweeps.grid import Point

    point = Point.__new__(Point)
    object.__setattr__(point, "values", {"epochs": 1})
    object.__setattr__(point, "parameters", resolve("quick", {}))
    return winners_command(options, point, options.spec().dataset)


def test_the_servers_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setenv("PREFECT_API_URL", f"http://user:{CANARY}@prefect.invalid:1/api")
    with pytest.raises(ServiceError) as error:
        choose_endpoint(None)
    assert CANARY not in str(error.value)
    record = UpRecord("mark", os.environ["PREFECT_API_URL"], None, os.getpid(), 0.0)
    assert CANARY not in record.ui_url
    pidfile = Pidfile()
    pidfile.save(record)
    assert private(pidfile.folder)


def test_the_shared_stores_url() -> None:
    with pytest.raises(SharedStoreError) as error:
        Remote(secret_url("s3x://bucket/store")).connect()
    assert CANARY not in str(error.value)


def test_logs_with_tracebacks() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("digitflow.x")
    logger.addHandler(handler)
    try:
        try:
            raise ValueError(secret_url("http://host/"))
        except ValueError:
            logger.exception("failed: %s", secret_url("http://host/"))
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue().count("http://host/") >= 2
    assert CANARY not in stream.getvalue()


def test_a_servers_log_of_a_webhook_that_refuses(caplog: pytest.LogCaptureFixture) -> None:
    """The path of such an address is a password, too."""
    address = secret_url(f"http://127.0.0.1:9/services/{CANARY}")
    refused = httpx.Response(404, request=httpx.Request("POST", address))
    try:
        refused.raise_for_status()
    except httpx.HTTPStatusError:
        logging.getLogger("prefect.server.utilities").exception("Failed in consume_loop")
    assert "404 Not Found' for url 'http://127.0.0.1:9/…'" in caplog.text
    assert CANARY not in caplog.text


def test_a_dataset_as_json_and_as_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = from_directory(write_dataset(tmp_path / "data"))
    path = tmp_path / "secret.toml"
    write_manifest(path, replace(found, name="secret", mirrors=(secret_url("http://host/"),)))
    assert path.stat().st_mode & 0o077 == 0
    assert main(["dataset", "show", str(path), "--json"]) == 0
    assert main(["dataset", "show", str(path)]) == 0
    shown = capsys.readouterr()
    assert "http://host/" in shown.out
    assert CANARY not in shown.out + shown.err


def private(path: Path) -> bool:
    return path.stat().st_mode & 0o077 == 0


def test_folders_are_their_owners_unless_somebody_has_made_one_to_share(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    make_folder(tmp_path / "store" / "objects")
    assert private(tmp_path / "store")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    write_bytes(shared / "records" / "a" / "file", b"")
    for folder in (shared / "records", shared / "records" / "a"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2775
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)
    make_folder(sticky / "store")
    assert private(sticky / "store")


@pytest.mark.prefect
def test_what_runs_and_a_crash_leave(tmp_path: Path) -> None:
    """A run with a password in every place for one, one that fails, and one that is killed."""
    files = {file.name: file.read_bytes() for file in write_dataset(tmp_path / "source").iterdir()}
    dataset = from_directory(tmp_path / "source")
    home = tmp_path / "home"
    home.mkdir(0o755)
    environment = {
        **os.environ,
        "HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "DIGITFLOW_STORE": str(home / "store"),
        "AWS_SECRET_ACCESS_KEY": CANARY,
        "AZURE_STORAGE_SAS_TOKEN": f"sig={CANARY}",
        "PREFECT_SERVER_DATABASE_PASSWORD": CANARY,
        # The embedded server asks for it, and every client of ours knows it.
        "PREFECT_SERVER_API_AUTH_STRING": f"user:{CANARY}",
        "PREFECT_API_AUTH_STRING": f"user:{CANARY}",
        "COLUMNS": "200",
        "TMPDIR": str(tmp_path / "tmp"),
    }
    (tmp_path / "tmp").mkdir()

    def answer(handler: Handler) -> None:
        name = handler.path.partition("?")[0].rpartition("/")[2]
        Behaviours.serve(files[name])(handler)

    with serving() as server:
        mirror = secret_url(server.script(answer))
        manifest = tmp_path / "secret.toml"
        write_manifest(manifest, replace(dataset, name="secret", mirrors=(mirror,)))
        asked = {**environment, "DIGITFLOW_MIRROR": secret_url("http://127.0.0.1:9/env")}
        arguments = ["--dataset", str(manifest), "--verbose"]
        settings = ["--set", *(f"{name}={value}" for name, value in TINY.items())]
        done = digitflow(tmp_path, asked, "run", *arguments, *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        assert all(headers["Authorization"] for _, headers in server.asked)
        assert all(CANARY in path for path, _ in server.asked)
        server.script(Behaviours.answer(404))
        asked["DIGITFLOW_STORE"] = str(home / "other")
        failed = digitflow(tmp_path, asked, "run", "--mirror", mirror, *arguments, *settings)
        assert failed.returncode == 1, failed.stdout + failed.stderr
        assert "404 Not Found" in failed.stderr
        server.script(answer)
        asked["DIGITFLOW_STORE"] = str(home / "third")
        log = tmp_path / "tmp" / "killed"
        command = [sys.executable, "-m", "digitflow", "run", *arguments, *settings]
        with running(command, folder=tmp_path, environment=asked, log=log) as killed:
            trained = home / "third" / "records" / "preprocess"
            wait_for(lambda: trained.is_dir() and any(trained.iterdir()), "half of a run")
            typed = [each.cmdline() for each in Process(killed.pid).children(recursive=True)]
            killed.kill()
            assert killed.wait() == -signal.SIGKILL
    assert len(typed) > 0  # the server's
    assert CANARY not in str(typed)
    said = "".join([done.stdout, done.stderr, failed.stdout, failed.stderr])
    assert CANARY not in said
    search(home, tmp_path / "results", tmp_path / "tmp")
    assert json.loads(next((tmp_path / "results").rglob("run.json")).read_text())["run"]
    for folder in (home / "store", home / "prefect"):
        assert private(folder), stat.filemode(folder.stat().st_mode)


def search(*folders: Path) -> None:
    """Find no canary in what a run with a server of its own has left."""
    left = [path for top in folders for path in top.rglob("*") if path.is_file()]
    assert {"run.json", "report.html", "prefect.db"} <= {path.name for path in left}
    assert [path for path in left if CANARY.encode() in path.read_bytes()] == []


@pytest.mark.prefect
def test_what_up_and_deploy_leave(tmp_path: Path) -> None:
    """Who is to be told, by an address that is its own password and refuses; and a worker's run."""
    files = {file.name: file.read_bytes() for file in write_dataset(tmp_path / "source").iterdir()}
    home, temporary, project = (tmp_path / name for name in ("home", "tmp", "project"))
    for folder in (home, temporary, project):
        folder.mkdir()

    def answer(handler: Handler) -> None:  # to GET; what is posted is refused
        name = handler.path.partition("?")[0].rpartition("/")[2]
        Behaviours.serve(files[name])(handler)

    with serving() as server:
        url = server.script(answer)
        secrets = {
            "DIGITFLOW_NOTIFY": secret_url(f"{url}hook/{CANARY}"),
            "DIGITFLOW_MIRROR": secret_url(url),
            "PREFECT_SERVER_API_AUTH_STRING": f"user:{CANARY}",
            "PREFECT_API_AUTH_STRING": f"user:{CANARY}",
            "TMPDIR": str(temporary),
        }
        manifest = tmp_path / "source.toml"
        public = replace(
            from_directory(tmp_path / "source"), name="source", mirrors=("http://127.0.0.1:9/",)
        )
        write_manifest(manifest, public)
        seen: list[object] = []
        with running_up(home, copy_project(project), free_port(), settings=secrets) as up:
            here = up.deployed.server.environment
            named = {each: here[each] for each in ("PREFECT_API_URL", "no_proxy")}
            typed = {**up.environment, **named}

            def run_and_look(*command: str) -> None:
                log = temporary / "typed"
                with running(command, folder=home, environment=typed, log=log) as process:

                    def has_ended() -> bool:
                        for each in up.processes():
                            with suppress(NoSuchProcess):
                                seen.append(each.cmdline())
                        return process.poll() is not None

                    wait_for(has_ended, command[-1])
                    seen.append(log.read_text(encoding="utf-8"))
                    assert process.returncode == 0, seen[-1]

            run_and_look(*DIGITFLOW, "deploy")
            parameters = {"dataset": str(manifest), **TINY, "hidden_sizes": [8]}
            given = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
            run_and_look(*PREFECT, *("deployment", "run", "digitflow/train", "--watch"), *given)
            assert any(CANARY in path for path, _ in server.asked)
            held = ("digitflow.model.held", "--resource-id", "digitflow.model.1")
            payload = '{"headline": "held", "version": 1}'
            run_and_look(*PREFECT, *("event", "emit", *held, "--payload", payload))
            log = home / "prefect" / "digitflow-up" / "server.log"
            wait_for(lambda: "Unsupported method" in log.read_text(), "the refusal")
            up.end(signal.SIGINT)
    assert any("deploy" in each for each in seen)
    assert CANARY not in str(seen)
    search(home, temporary, project / "results")


def digitflow(
    folder: Path, environment: Mapping[str, str], *arguments: str
) -> subprocess.CompletedProcess[str]:
    return python("-m", "digitflow", *arguments, folder=folder, environment=environment)
