"""Two that want the same key: one computes, the other waits and is served."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from storage.cache import Cache
from storage.errors import StoreUnusableError
from storage.keys import StageKey
from storage.locks import KeyLocks, briefly, patiently

KEY = StageKey("slow", {}, {"n": 1}, {})
FORMATS = {"pid": "json"}


def compute_slowly(root: str, log: str, started: Any, seconds: float, refresh: bool) -> None:
    """Take `KEY` from the store at `root`; write a line to `log` for every computation."""

    def compute(scratch: Path) -> dict[str, Any]:
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()}\n")
        (scratch / f"{os.getpid()}").write_text("a trace")
        started.set()
        time.sleep(seconds)
        return {"pid": sorted(path.name for path in scratch.iterdir())}

    Cache(Path(root)).obtain(KEY, "slow", compute, FORMATS, run="r", refresh=refresh)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def computations(log: Path) -> int:
    return len(log.read_text().splitlines())


@pytest.mark.parametrize("refresh", [False, True])
def test_threads_with_the_same_key_compute_once(cache: Cache, log: Path, refresh: bool):
    arguments = (str(cache.root), str(log), threading.Event(), 0.2, refresh)
    threads = [threading.Thread(target=compute_slowly, args=arguments) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert computations(log) == 1
    assert cache.look_up(KEY, "slow").record is not None


def test_threads_with_other_keys_do_not_wait_for_each_other(cache: Cache):
    both = threading.Barrier(2, timeout=20)

    def compute(scratch: Path) -> dict[str, Any]:
        both.wait()  # breaks unless the other computes at the same time
        return {"pid": 1}

    def obtain(number: int) -> None:
        key = StageKey("slow", {}, {"n": number}, {})
        cache.obtain(key, "slow", compute, FORMATS, run="r")

    threads = [threading.Thread(target=obtain, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not both.broken
    assert len(list(cache.records.of_stage("slow"))) == 2


def test_processes_with_the_same_key_compute_once(cache: Cache, log: Path):
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Event()
    processes = [
        spawn.Process(target=compute_slowly, args=(str(cache.root), str(log), started, 0.5, False))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert computations(log) == 1


def test_when_the_one_that_computes_is_killed_the_next_takes_over(cache: Cache, log: Path):
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Event()
    holder = spawn.Process(
        target=compute_slowly, args=(str(cache.root), str(log), started, 600, False)
    )
    holder.start()
    assert started.wait(60)
    waiter = threading.Thread(
        target=compute_slowly,
        args=(str(cache.root), str(log), threading.Event(), 0, False),
        daemon=True,
    )
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive()  # it waits as long as the holder lives
    assert computations(log) == 1
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(30)
    waiter.join(30)
    assert not waiter.is_alive()
    assert computations(log) == 2
    record = cache.look_up(KEY, "slow").record
    assert record is not None
    # It found what the killed one had left in the scratch folder.
    assert cache.read(record.outputs["pid"]) == sorted([str(holder.pid), str(os.getpid())])


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
    monkeypatch.setattr("storage.locks.SECONDS_FOR_A_BRIEF_LOCK", 0.1)
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
    monkeypatch.setattr("storage.locks.SECONDS_BETWEEN_SENTENCES", 0.05)
    monkeypatch.setattr("storage.locks._SECONDS_BETWEEN_CALLS", 0.05)
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
    waiter.join(30)
    assert inside.is_set()
    assert set(caplog.messages) == {
        f"waiting for object abc…, which another process is fetching ({path})"
    }
