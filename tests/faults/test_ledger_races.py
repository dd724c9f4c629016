"""Processes that move champions at once, and are killed: no move is lost, none is made up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from digitflow.storage.backends.base import Backend
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.remote import remote
from digitflow.storage.history.models import LedgerEntry
from digitflow.storage.history.registry import ModelStore
from tests.environment import CLEAN
from tests.patience import PATIENCE, wait_for
from tests.share.s3_server import S3, running_s3
from tests.storage.test_registry import fields

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = 3

# Moves the champion so many times, says before what it is about to do and afterwards what is done.
MOVER = """
import json, sys
from pathlib import Path
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.backends.remote import remote
from digitflow.storage.errors import MovedMeanwhileError
from digitflow.storage.history.registry import ModelStore

here, url, log, name, moves = sys.argv[1:]
models = ModelStore(LocalBackend(Path(here)), remote(url) if url else None)
with open(log, "a", buffering=1) as said:
    done = sum(json.loads(line)[0] == "done" for line in open(log))
    for number in range(done, int(moves)):
        why = f"{name} {number}"
        said.write(json.dumps(["about to", why]) + "\\n")
        while True:
            champion = models.champion("mnist")
            before = None if champion is None else champion.version
            try:
                models.promote((before or 0) % 3 + 1, why, "mnist", judged_against=before)
                break
            except MovedMeanwhileError:
                continue
        said.write(json.dumps(["done", why]) + "\\n")
"""


def race(
    folder: Path, *, processes: int, moves: int, kills: int, url: str = "", s3: S3 | None = None
) -> list[LedgerEntry]:
    """Let processes move one champion, kill them now and then, and return the ledger."""
    environment = {**CLEAN, "PYTHONPATH": str(ROOT), **(s3.environment if s3 else {})}
    there: Backend | None = remote(url) if url else None
    models = ModelStore(LocalBackend(folder / "outside"), there)
    if not url:
        models = ModelStore(LocalBackend(folder / "store"))
    for number in range(VERSIONS):
        models.register(**fields(f"{number:064x}"))
    rng = random.Random(1)

    def start(number: int) -> subprocess.Popen[bytes]:
        here = folder / (f"machine-{number}" if url else "store")
        log = folder / f"log-{number}"
        log.touch()
        arguments = [str(here), url, str(log), f"process-{number}", str(moves)]
        return subprocess.Popen([sys.executable, "-c", MOVER, *arguments], env=environment)

    running = {number: start(number) for number in range(processes)}
    for _ in range(kills):
        number = rng.choice(sorted(running))
        log = folder / f"log-{number}"
        seen = len(log.read_bytes()) + rng.randrange(moves * 8)  # somewhere in its next moves
        wait_for(
            lambda log=log, seen=seen, number=number: (
                len(log.read_bytes()) >= seen or running[number].poll() is not None
            ),
            "some moves",
        )
        os.kill(running[number].pid, signal.SIGKILL)
        running[number].wait(PATIENCE)
        running[number] = start(number)
    for process in running.values():
        wait_for(lambda process=process: process.poll() is not None, "the end of a process")
        assert process.returncode == 0
    return models.ledger.read()


def check(chain: list[LedgerEntry], folder: Path, *, processes: int, moves: int) -> None:
    """Nothing that was done is missing, nothing else is there, and all of it is one line."""
    said = [
        json.loads(line)
        for number in range(processes)
        for line in (folder / f"log-{number}").read_text().splitlines()
    ]
    begun = {why for what, why in said if what == "about to"}
    done = [why for what, why in said if what == "done"]
    assert len(done) == processes * moves
    entries = [entry for entry in chain if entry.kind == "promoted"]
    recorded = [entry.reason for entry in entries]
    assert {*done} <= {*recorded} <= begun
    # One whose process was killed before it could say so may have been made once more.
    assert len(recorded) <= len(done) + (len(said) - 2 * len(done))
    assert [entry.order for entry in chain] == list(range(1, len(chain) + 1))
    assert all(b.previous == a.digest for a, b in zip(chain, chain[1:], strict=False))
    assert not [entry for entry in chain if entry.kind == "lost"]
    # Each was judged against the one before: a champion that two had moved at once shows here.
    champion = None
    numbers = {e.version: e.trained.version for e in chain if e.trained is not None}
    for entry in entries:
        assert entry.details["champion"] == champion
        champion = numbers[entry.version]


def test_on_disk(tmp_path: Path) -> None:
    chain = race(tmp_path, processes=3, moves=10, kills=2)
    check(chain, tmp_path, processes=3, moves=10)


def test_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        s3.client().create_bucket(Bucket="race")
        chain = race(tmp_path, processes=2, moves=5, kills=1, url="s3://race/store", s3=s3)
    check(chain, tmp_path, processes=2, moves=5)


@pytest.mark.slow
def test_long_on_disk(tmp_path: Path) -> None:
    chain = race(tmp_path, processes=8, moves=1_000, kills=40)
    check(chain, tmp_path, processes=8, moves=1_000)


@pytest.mark.slow
def test_long_on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        s3.client().create_bucket(Bucket="race")
        chain = race(tmp_path, processes=8, moves=60, kills=20, url="s3://race/store", s3=s3)
    check(chain, tmp_path, processes=8, moves=60)
