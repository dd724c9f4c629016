"""Two that want the same key: one computes, the other waits and is served."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from digitflow.storage.backends.locks import KeyLocks, briefly, patiently
from digitflow.storage.errors import StoreUnusableError
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from tests.patience import PATIENCE, wait_for

KEY = StageKey("slow", {}, {"n": 1}, {})
FORMATS = {"pid": "json"}


class Waiting:
    """Those who wait for somebody else's computation: a file for each in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def note(self, holder: str) -> None:
        """Note that the calling thread waits for `holder`."""
        (self.folder / f"{os.getpid()}-{threading.get_ident()}").touch()

    def number(self) -> int:
        """How many have waited."""
        return len(list(self.folder.iterdir()))


def obtain(
    root: Path, computations: Path, waiting: Waiting, until: int | None, refresh: bool = False
) -> None:
    """Take `KEY` from the store at `root`; add a line to `computations` if it is computed here.

    The computation lasts until so many others wait for it; without a number, until it is killed.
    """

    def compute(scratch: Path) -> dict[str, Any]:
        with computations.open("a") as file:
            file.write(f"{os.getpid()}\n")
        (scratch / f"{os.getpid()}").write_text("a trace")
        if until is None:
            time.sleep(PATIENCE)
        else:
            wait_for(lambda: waiting.number() >= until, f"{until} who wait")
        return {"pid": sorted(path.name for path in scratch.iterdir())}

    Store(root).cache.obtain(
        KEY, "slow", compute, FORMATS, run="r", refresh=refresh, on_wait=waiting.note
    )


@pytest.fixture
def computations(tmp_path: Path) -> Path:
    return tmp_path / "computations"


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path / "waiting")


def lines(computations: Path) -> list[str]:
    return computations.read_text().splitlines() if computations.exists() else []


def run_in_threads(count: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in so many threads at once, until all have ended."""
    threads = [threading.Thread(target=function, args=arguments) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.parametrize("refresh", [False, True])
def test_threads_with_the_same_key_compute_once(
    store: Store, computations: Path, waiting: Waiting, refresh: bool
):
    run_in_threads(4, obtain, store.root, computations, waiting, 3, refresh)
    assert len(lines(computations)) == 1
    assert store.cache.look_up(KEY, "slow").record is not None


def test_threads_with_other_keys_do_not_wait_for_each_other(store: Store):
    both = threading.Barrier(2, timeout=PATIENCE)
    numbers = iter(range(2))

    def compute(scratch: Path) -> dict[str, Any]:
        both.wait()  # breaks unless the other computes at the same time
        return {"pid": 1}

    def obtain_another() -> None:
        key = StageKey("slow", {}, {"n": next(numbers)}, {})
        store.cache.obtain(key, "slow", compute, FORMATS, run="r")

    run_in_threads(2, obtain_another)
    assert not both.broken
    assert len(list(store.records.of_stage("slow"))) == 2


def test_processes_with_the_same_key_compute_once(
    store: Store, computations: Path, waiting: Waiting
):
    spawn = multiprocessing.get_context("spawn")
    arguments = (store.root, computations, waiting, 1)
    processes = [spawn.Process(target=obtain, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    assert len(lines(computations)) == 1


def test_when_the_one_that_computes_is_killed_the_next_takes_over(
    store: Store, computations: Path, waiting: Waiting
):
    spawn = multiprocessing.get_context("spawn")
    arguments = (store.root, computations, waiting, None)
    holder = spawn.Process(target=obtain, args=arguments, daemon=True)
    holder.start()
    wait_for(lambda: lines(computations) or not holder.is_alive(), "the first computation")
    assert holder.is_alive()
    waiter = threading.Thread(
        target=obtain, args=(store.root, computations, waiting, 0), daemon=True
    )
    waiter.start()
    wait_for(waiting.number, "the one who waits")
    assert waiter.is_alive()  # it waits as long as the holder lives
    assert len(lines(computations)) == 1
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(PATIENCE)
    waiter.join(PATIENCE)
    assert not waiter.is_alive()
    assert lines(computations) == [str(holder.pid), str(os.getpid())]
    record = store.cache.look_up(KEY, "slow").record
    assert record is not None
    # It found what the killed one had left in the scratch folder.
    assert store.read(record.outputs["pid"]) == sorted([str(holder.pid), str(os.getpid())])


SHA256 = "ab" * 32


class EnoughError(Exception):
    """Raised by who has waited long enough."""


def told_while_waiting(folder: Path) -> str:
    """What somebody is told who wants a key that is being computed."""
    told: list[str] = []

    def stop(holder: str) -> None:
        told.append(holder)
        raise EnoughError

    with pytest.raises(EnoughError), KeyLocks(folder).computing(SHA256, on_wait=stop):
        pass
    return told[0]


def test_who_waits_is_told_for_whom(tmp_path: Path):
    with KeyLocks(tmp_path).computing(SHA256, "patient-owl"):
        holder = told_while_waiting(tmp_path)
    assert holder == f"run patient-owl (process {os.getpid()} on {socket.gethostname()})"
    assert not list(tmp_path.glob("*.holder"))


def test_a_note_is_for_people_and_nothing_rests_on_it(tmp_path: Path):
    """It may be missing, a link, or say anything."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    folder = tmp_path / "locks"
    folder.mkdir()
    note = folder / f"{SHA256}.holder"
    note.symlink_to(elsewhere)
    with KeyLocks(folder).computing(SHA256, "r"):
        assert elsewhere.read_text() == "mine"
        note.unlink()
        assert told_while_waiting(folder) == ""
        note.symlink_to(elsewhere)
        assert told_while_waiting(folder) == ""
        note.unlink()
        note.write_bytes(b"run \x1b[31m\xff\n" + b"x" * 1000)
        told = told_while_waiting(folder)
        assert told.startswith("run ?[31m\ufffd?xxx")
        assert len(told) <= 200
    assert elsewhere.read_text() == "mine"


def test_a_brief_lock_that_somebody_keeps_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "alias.lock"
    monkeypatch.setattr("digitflow.storage.backends.locks.SECONDS_FOR_A_BRIEF_LOCK", 0.1)
    with FileLock(path), pytest.raises(StoreUnusableError) as caught, briefly(path, "the aliases"):
        pass
    assert f"the aliases: another process has kept {path} locked for" in str(caught.value)
    assert "End it if it hangs (fuser shows which), and run again" in str(caught.value)
    with briefly(path, "the aliases"):  # and it is free again
        pass


def test_a_patient_wait_says_again_and_again_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = tmp_path / "fetch.lock"
    monkeypatch.setattr("digitflow.storage.backends.locks.SECONDS_BETWEEN_SENTENCES", 0.05)
    monkeypatch.setattr("digitflow.storage.backends.locks._SECONDS_BETWEEN_CALLS", 0.05)
    inside = threading.Event()

    def wait() -> None:
        with patiently(path, "object abc…"):
            inside.set()

    with FileLock(path):
        waiter = threading.Thread(target=wait)
        waiter.start()
        while len(caplog.messages) < 3:
            assert waiter.is_alive()
        assert not inside.is_set()
    waiter.join(PATIENCE)
    assert inside.is_set()
    assert set(caplog.messages) == {
        f"waiting for object abc…, which another process is fetching ({path})"
    }
