"""Whenever an uploading machine is killed, what the others see is whole."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from digitflow.storage.cache import Cache
from digitflow.storage.digests import digest_bytes
from digitflow.storage.errors import SharedStoreError
from tests.environment import CLEAN
from tests.patience import PATIENCE
from tests.share.conftest import Machine
from tests.share.machines import compute_and_note, compute_large, finish, start
from tests.share.s3_server import S3, Request
from tests.share.work import squares

# Two objects, the record that names them, the record of the run.
WRITES = 4
LARGE = 36_000_000

Environment = Callable[[str], dict[str, str]]


@pytest.fixture
def environment(s3: S3, url: str, tmp_path: Path) -> Environment:
    """The environment of the machine of this name."""

    def of(name: str) -> dict[str, str]:
        return {
            **CLEAN,
            **s3.environment,
            "HOME": str(tmp_path / name),
            "DIGITFLOW_STORE": url,
        }

    return of


class Killer:
    """Kills a process at a moment that the server sees."""

    def __init__(self) -> None:
        self.victim: ForkServerProcess | None = None
        self.killed = False
        self._lock = threading.Lock()

    def kill(self) -> None:
        """Kill it once, however many requests ask for that at once."""
        with self._lock:
            while self.victim is None or self.victim.pid is None:
                time.sleep(0.001)
            if not self.killed:
                self.killed = True
                os.kill(self.victim.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                while True:  # until it has really ended
                    os.kill(self.victim.pid, 0)
                    time.sleep(0.001)


def assert_whole(s3: S3, bucket: str) -> dict[str, bytes]:
    """Every object is what its name says, and every record names what is there."""
    there = {name.removeprefix("team/store/"): data for name, data in s3.keys(bucket).items()}
    for name, data in there.items():
        kind, *parts = name.removesuffix(".json").split("/")
        if kind == "objects":
            assert digest_bytes(data) == "".join(parts)
        else:
            outputs = json.loads(data).get("outputs", {})
            for artifact in outputs.values():
                sha256 = artifact["sha256"]
                assert f"objects/{sha256[:2]}/{sha256[2:]}" in there
    return there


@pytest.mark.parametrize("number", range(1, WRITES + 1))
def test_killed_after_each_write(
    s3: S3, bucket: str, machine: Machine, environment: Environment, number: int
) -> None:
    killer = Killer()
    written = 0

    def after(request: Request) -> None:
        nonlocal written
        if request.method == "PUT" and request.path.startswith(f"/{bucket}/"):
            written += 1
            if written == number:
                killer.kill()

    s3.after = after
    killer.victim = start(compute_and_note, environment("first"), "killed")
    killer.victim.join(PATIENCE)
    assert killer.victim.exitcode == -signal.SIGKILL
    s3.after = None

    there = assert_whole(s3, bucket)
    assert len(there) == number
    # Shared is what the record says, once it is there.
    assert squares(machine("second").local)[1] == 1
    assert (squares(machine("third"))[1] == 0) is (number >= 3)

    finish(start(compute_and_note, environment("first"), "again"))
    assert_whole(s3, bucket)
    fourth = machine("fourth")
    assert squares(fourth)[1] == 0
    assert "again" in [run.name for run in fourth.runs.newest_first()]


def test_killed_in_the_midst_of_an_object(s3: S3, bucket: str, environment: Environment) -> None:
    """A put whose body ends early stores nothing."""
    killer = Killer()

    def before(request: Request) -> None:
        if request.method == "PUT" and "/objects/" in request.path and not killer.killed:
            request.environment["wsgi.input"].read(1_000_000)
            killer.kill()

    s3.before = before
    killer.victim = start(compute_large, environment("first"), 30_000_000)
    killer.victim.join(PATIENCE)
    assert killer.killed
    s3.before = None
    assert_whole(s3, bucket)
    assert s3.keys(bucket) == {}


def test_killed_between_the_parts_of_a_large_object(
    s3: S3, bucket: str, environment: Environment, tmp_path: Path, url: str
) -> None:
    killer = Killer()
    parts = 0

    def after(request: Request) -> None:
        nonlocal parts
        if "partNumber" in request.query:
            parts += 1
            if parts >= 2:
                killer.kill()

    s3.after = after
    killer.victim = start(compute_large, environment("first"), LARGE)
    killer.victim.join(PATIENCE)
    assert killer.killed
    s3.after = None
    assert s3.keys(bucket) == {}
    # What was begun is invisible, and stays until the bucket's own rules remove it.
    assert len(s3.client().list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1

    finish(start(compute_large, environment("first"), LARGE))

    assert len(assert_whole(s3, bucket)) == 2
    second = Cache(tmp_path / "second", url)
    (record,) = second.records.of_stage("large")
    assert second.read(record.outputs["bytes"]).size == LARGE


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_to_a_folder_leaves_nothing_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Where a write can be seen half done it goes elsewhere first."""
    share = tmp_path / "share"
    first = Cache(tmp_path / "first", share.as_uri())
    first.connect()
    halves: list[Path] = []

    def half(source: Path, target: Path) -> None:
        data = source.read_bytes()
        target.write_bytes(data[: len(data) // 2])
        halves.append(target)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("digitflow.storage.backends.local.shutil.copyfile", half)
        with pytest.raises((SharedStoreError, KeyboardInterrupt)):
            squares(first)

    assert [path.name[:5] for path in halves] == [".tmp-"]
    assert [path for path in share.rglob("*") if path.is_file()] == []
    assert squares(Cache(tmp_path / "first", share.as_uri()))[1] == 0
    assert squares(Cache(tmp_path / "second", share.as_uri()))[1] == 0
