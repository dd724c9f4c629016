"""`digitflow run` with mirrors that drip or ask to be left alone: what a person sees, and gets."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from digitflow.tasks.data.datasets.manifest import write_manifest
from digitflow.tasks.data.datasets.sources import from_directory
from tests.servers.processes import python
from tests.servers.scripted import Behaviours, Handler, ScriptedServer, serving

pytestmark = pytest.mark.prefect

# The command itself, with a floor that is reached in seconds. A byte each twentieth of a second is
# far below.
COMMAND = """
import sys
from digitflow.flows.cli.app import main
from digitflow.tasks.data.download.fetch import fetch
from digitflow.tasks.data.download.waiting import Limits
fetch.__kwdefaults__["limits"] = Limits(slowest=5_000.0, window=3.0)
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def slow() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def good() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


def run(folder: Path, dataset: Path, mirror: str) -> tuple[int, str]:
    """Run until the files are decoded; return the exit code and everything that was said."""
    environment = {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "DIGITFLOW_STORE": str(folder / "store"),
        "COLUMNS": "400",
    }
    arguments = ["run", "--dataset", str(dataset), "--mirror", mirror, "--until", "decode"]
    done = python("-c", COMMAND, *arguments, folder=folder, environment=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def dataset(tiny_directory: Path, good: ScriptedServer, tmp_path: Path) -> Path:
    """A manifest whose only mirror is the good one."""

    def serve(request: Handler) -> None:
        Behaviours.serve((tiny_directory / Path(request.path).name).read_bytes())(request)

    good.script(serve)
    own = replace(from_directory(tiny_directory), name="own", mirrors=(good.url,))
    write_manifest(tmp_path / "own.toml", own)
    return tmp_path / "own.toml"


def test_a_mirror_that_drips_is_left_for_the_good_one(
    tmp_path: Path, slow: ScriptedServer, good: ScriptedServer, dataset: Path
) -> None:
    slow.script(Behaviours.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "))
    code, text = run(tmp_path, dataset, slow.url)
    assert code == 0, text
    told = [line for line in text.splitlines() if f"{slow.url}: too slow: 0 bytes in " in line]
    assert len(told) == 4
    assert all(line.endswith(f"; going on with {good.url}") for line in told)
    assert len(slow.asked) == len(good.asked) == 4


def test_a_mirror_that_asks_to_be_left_alone_is_asked_again_when_it_said(
    tmp_path: Path, slow: ScriptedServer, good: ScriptedServer, dataset: Path
) -> None:
    slow.script(Behaviours.answer(404))
    busy = [Behaviours.answer(429, Retry_After=1)] * 4
    good.script(*busy, *good.behaviours)
    code, text = run(tmp_path, dataset, slow.url)
    assert code == 0, text
    reason = "429 Too Many Requests, and asks to be left alone for 1 s; asked again in "
    assert text.count(f"{good.url}: {reason}") == 4
    assert len(good.asked) == 8  # and not 34


def test_a_mirror_that_asks_for_too_long_ends_the_run_with_that(
    tmp_path: Path, slow: ScriptedServer, good: ScriptedServer, dataset: Path
) -> None:
    slow.script(Behaviours.answer(404))
    good.script(Behaviours.answer(503, Retry_After=3600))
    code, text = run(tmp_path, dataset, slow.url)
    assert code == 1
    reason = "503 Service Unavailable, and asks to be left alone for 3,600 s"
    limit = "that is more than the 300 s for which a mirror is waited for"
    assert f"{good.url}: {reason}; {limit}" in text
    assert "Run again later." in text
    assert len(good.asked) <= 4  # once for each file, and none again
