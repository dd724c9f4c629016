"""The command line on a second machine: what the first one computed is there."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.backends.remote import cache_folder
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import from_directory
from tests.environment import CLEAN
from tests.mnist import ROOT
from tests.patience import PATIENCE
from tests.share.s3_server import S3
from tests.walk import LABELS, TINY, Walk, walk, write_dataset

Digitflow = Callable[..., "subprocess.CompletedProcess[str]"]
Command = Callable[..., tuple[int, str]]

SET = [f"{name}={value}" for name, value in TINY.items()]


@dataclass(frozen=True)
class FirstMachine:
    """A machine that has walked the pipeline.

    Attributes
    ----------
    url
        Of the store that it shares.
    dataset
        Folder of the dataset.
    cache
        The store as it sees it.
    done
        What it computed.
    requests
        How many it took to share that.
    """

    url: str
    dataset: Path
    cache: Store
    done: Walk
    requests: int


@pytest.fixture(scope="module")
def first_machine(s3_session: S3, tmp_path_factory: pytest.TempPathFactory) -> FirstMachine:
    folder = tmp_path_factory.mktemp("first")
    dataset = write_dataset(folder / "dataset")
    s3_session.client().create_bucket(Bucket="two-machines")
    url = "s3://two-machines/team/store"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_session.environment.items():
            patch.setenv(name, value)
        cache = Store(folder / "cache", url)
        with s3_session.counting() as requests:
            done = walk(cache, from_directory(str(dataset)), run="busy-bee")
    assert set(done.ran) == set(LABELS)
    return FirstMachine(url, dataset, cache, done, len(requests))


@pytest.fixture
def url(s3: S3, first_machine: FirstMachine) -> str:
    return first_machine.url


@pytest.fixture
def digitflow(s3: S3, url: str, tmp_path: Path) -> Digitflow:
    """Run the command on a machine that has nothing but the shared store's address."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)

    def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "digitflow", *arguments],
            cwd=home,
            env={
                **CLEAN,
                **s3.environment,
                "HOME": str(home),
                "DIGITFLOW_STORE": url,
                "COLUMNS": "200",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


@pytest.fixture
def second_machine(
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run the command in this process, as the machine of `digitflow`."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.chdir(home)
    for name, value in {"HOME": str(home), "DIGITFLOW_STORE": url, "COLUMNS": "200"}.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(list(arguments))
        return code, capsys.readouterr().out

    return run


def test_a_second_machine_has_nothing_to_do(
    first_machine: FirstMachine,
    digitflow: Digitflow,
    second_machine: Command,
    tmp_path: Path,
    s3: S3,
) -> None:
    options = ["--dataset", str(first_machine.dataset), "--set", *SET]

    run = digitflow("run", *options, "--output", "out")

    assert run.returncode == 0, run.stdout + run.stderr
    assert "nothing to do" in run.stdout
    results = json.loads((tmp_path / "home" / "out" / "run.json").read_text())
    stages = {stage["name"]: stage for stage in results["stages"]}
    assert set(stages) == set(LABELS)
    assert all(stage["cached"] for stage in stages.values())
    found = {
        f"{label}.{name}": each["sha256"]
        for label, stage in stages.items()
        for name, each in stage["outputs"].items()
    }
    assert found == first_machine.done.digests()

    # Again, in this process: the store is asked whether it answers, for runs and for the ledger's
    # end, no more, and nothing is written.
    with s3.counting() as requests:
        assert second_machine("run", *options, "--output", "out")[0] == 0
    assert requests
    asked = {(each.method, each.path.partition("store/")[2]) for each in requests}
    assert {each for each in asked if each[1]} <= {("GET", "ledger-head.json")}
    with s3.counting() as requests:
        assert second_machine("plan", *options)[0] == 0
    assert requests == []
    others = [each for each in options if not each.startswith("epochs=")]
    code, said = second_machine("plan", *others, "epochs=3")
    assert code == 3
    assert "parameter epochs 2 → 3" in said


def test_what_sharing_costs(first_machine: FirstMachine, s3: S3, tmp_path: Path) -> None:
    """In requests, of which each takes its time; docs/sharing.md has the numbers."""
    cache = Store(tmp_path / "cache", first_machine.url)
    dataset = from_directory(str(first_machine.dataset))
    counted = []
    for name in ("second", "again"):
        with s3.counting() as requests:
            assert walk(cache, dataset, run=name).ran == []
        counted.append(len(requests))
    assert first_machine.requests <= 105
    assert counted[0] <= 59
    assert counted[1] == 0


def test_the_store_is_shown_verified_and_swept_from_a_second_machine(
    first_machine: FirstMachine, second_machine: Command, url: str
) -> None:
    model = first_machine.done.output("train", "model")

    code, said = second_machine("show", model.sha256[:12], "--json")
    assert code == 0
    document = json.loads(said)
    assert (document["object"], document["sound"]) == (model.sha256, True)
    assert document["made_by"] == "busy-bee"
    assert json.loads(second_machine("show", "train", "--json")[1])["made_by"] == "busy-bee"

    code, said = second_machine("verify")
    assert code == 0
    assert f"{url} was not read; verify it with: digitflow verify --shared" in said
    code, said = second_machine("verify", "--shared", "--json")
    assert code == 0
    assert json.loads(said)["objects"] == len(list(first_machine.cache.objects))
    assert json.loads(said)["records"] == len(LABELS) + 1  # and the cached run of the machine

    code, said = second_machine("gc", "--keep-days", "0")
    assert code == 0
    assert f"{url} is left alone; sweep it with: digitflow gc --shared" in said
    assert second_machine("gc", "--shared", "--keep-days", "3")[0] == 2
    assert f"nothing to delete in {url}" in second_machine("gc", "--shared")[1]


def test_a_store_that_cannot_be_reached_ends_a_run_before_any_work(
    digitflow: Digitflow, first_machine: FirstMachine, url: str, tmp_path: Path
) -> None:
    dataset = str(first_machine.dataset)
    everything = ("--set", "training_sample=0", "test_sample=0")
    run = digitflow("run", "--dataset", dataset, *everything, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert run.returncode == 1
    assert run.stdout == ""  # not even the dataset has been settled
    assert run.stderr.startswith(f"error: the shared store {url} cannot be used")
    assert "AWS_ENDPOINT_URL" in run.stderr
    assert "Traceback" not in run.stderr
    assert "--verbose" not in run.stderr  # nothing more would be learnt
    assert not (tmp_path / "home" / "results").exists()


@pytest.mark.parametrize("command", ["gc", "verify"])
def test_shared_is_refused_for_a_folder(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    assert main([command, "--shared"]) == 2
    assert "leave --shared out" in " ".join(capsys.readouterr().err.split())


def test_the_folder_of_a_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = cache_folder("s3://bucket/store")
    assert folder.parent == tmp_path / ".digitflow-cache"
    assert folder == cache_folder("s3://bucket/store/")
    assert folder != cache_folder("s3://bucket/other")
    monkeypatch.setenv("DIGITFLOW_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder("s3://bucket/store") == tmp_path / "elsewhere" / folder.name
    # The same name behind another endpoint is another store.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000")
    assert cache_folder("s3://bucket/store").name != folder.name
    assert cache_folder("gs://bucket/store").name == cache_folder("gs://bucket/store/").name


@pytest.mark.parametrize("name", ["s3://bucket/store", "memory://x", "file:///somewhere/store"])
def test_a_url_is_never_taken_for_a_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("DIGITFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("DIGITFLOW_STORE", name)
    cache = Store()
    assert cache.shared is not None
    assert cache.shared.remote.url == name
    assert cache.root == cache_folder(name)
    assert cache.local.shared is None
    assert cache.local.root == cache.root
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["", "s3://bucket/store"])
def test_what_lies_here_needs_no_driver(tmp_path: Path, address: str) -> None:
    """A store in a folder, and a hit in a shared store, import nothing that shares."""
    program = f"""
import os, sys
from pathlib import Path
from digitflow.flows.cli.app import main
from digitflow.storage.store import Store
from tests.share.work import squares
here = Path({str(tmp_path)!r})
squares(Store(here))
for path in here.rglob("records/*/*.json"):
    path.with_suffix(".sent").touch()
cache = Store(here, {address!r} or None)
assert squares(cache)[1] == 0
assert not cache.local.shared
foreign = {{"obstore", "fsspec", "botocore"}} & set(sys.modules)
assert not foreign, foreign
if not {address!r}:
    ours = {{"digitflow.storage.shared", "digitflow.storage.backends.remote"}} & set(sys.modules)
    assert not ours, ours
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=CLEAN,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
