"""A full disk, a store that may only be read, a file where the store should be."""

import os
import re
import resource
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from digitflow.flows.cli.app import main
from digitflow.flows.selection import Selection
from digitflow.storage.errors import StorageFullError, StoreUnusableError
from digitflow.storage.store import Store
from tests.faults.conftest import Undisturbed
from tests.faults.logged_walk import LoggedWalk, events
from tests.faults.processes import Attempt, finish, from_function
from tests.faults.small_disk import mounted
from tests.faults.soundness import check_free, check_sound, outcomes

SOME_BYTES = r"(\d{1,3}(,\d{3})*)"
NO_ROOM = re.compile(
    rf"no room for .+ in (?P<place>/\S+): "
    rf"({SOME_BYTES} bytes are needed and {SOME_BYTES} are free"
    rf"|more is needed than the {SOME_BYTES} bytes that are free|.+ needs {SOME_BYTES} more bytes)"
)


def check_said(attempt: Attempt, store: Path) -> str:
    """Check that one clear error named the place and the bytes; return it."""
    (first, *_) = attempt.output().splitlines()
    assert first.startswith("StorageFullError: "), attempt.output()
    found = NO_ROOM.search(first)
    assert found, first
    assert found["place"].startswith(str(store)), first
    assert "Make room" in first
    return first


def check_nothing_half_written(store: Path) -> None:
    check_sound(store)
    check_free(store)
    assert not [*store.rglob(".tmp-*")]
    assert not list((store / "objects" / "tmp").glob("*"))


@pytest.mark.parametrize(
    "sizes", [(24, 72, 120, 200), pytest.param(range(16, 400, 12), marks=pytest.mark.slow)]
)
def test_a_full_disk(undisturbed: Undisturbed, tmp_path: Path, sizes: Sequence[int]) -> None:
    """The disk is full at another place of the run each time."""
    failed = []
    for size in sizes:
        with mounted(tmp_path / f"disk-{size}", size * 1024) as disk:
            store, log = disk.folder / "store", tmp_path / f"log-{size}"
            attempt = undisturbed.job(store, log)
            if attempt.wait() == 0:
                continue  # there was room enough
            check_said(attempt, store)
            failed.append(events(log)[-1]["label"] if events(log) else "(start)")
            check_nothing_half_written(store)
            disk.resize(64 * 1024 * 1024)
            finish(undisturbed.job, store, log)
            assert outcomes(store) == undisturbed.outcomes
            check_sound(store)
    print(f"full {len(failed)} times: {dict(Counter(failed))}")
    assert len(set(failed)) >= 3


def test_a_disk_that_fills_up_between_runs(undisturbed: Undisturbed, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 16 * 1024 * 1024) as disk:
        store, log = disk.folder / "store", tmp_path / "log"
        finish(undisturbed.job, store, log)
        disk.fill(leaving=0)
        # What is cached is served still.
        attempt = from_function(replace(undisturbed.walk, changes={"epochs": 3}))(store, log)
        assert attempt.wait() == 1
        check_said(attempt, store)
        assert events(log)[-1]["label"] == "train"
        check_nothing_half_written(store)
        assert outcomes(store) == undisturbed.outcomes


def test_the_bytes_of_an_array_are_named(tmp_path: Path) -> None:
    import numpy as np

    from digitflow.storage.keys import StageKey

    with mounted(tmp_path / "disk", 1024 * 1024) as disk:
        cache = Store(disk.folder / "store")
        free = os.statvfs(disk.folder).f_bavail * os.statvfs(disk.folder).f_frsize
        with pytest.raises(StorageFullError) as caught:
            cache.cache.obtain(
                StageKey("big", {}, {}, {}),
                "big",
                lambda scratch: {"array": np.zeros(1_000_000)},
                {"array": "npy"},
                run="run",
            )
        said = str(caught.value)
        assert (
            f"no room for array of big in {cache.objects.root}: 8,000,000 bytes are needed" in said
        )
        (told,) = re.findall(r"and ([\d,]+) are free\.", said)
        assert 0.9 * free <= int(told.replace(",", "")) <= free
        check_nothing_half_written(cache.root)


def limit_file_size(store: Path) -> None:
    """Let no file of this process grow beyond 3 kB; the kernel refuses, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))


def test_a_limit_on_the_size_of_files(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The same, where nothing may be mounted."""
    store, log = tmp_path / "store", tmp_path / "log"
    attempt = from_function(undisturbed.walk, before=limit_file_size)(store, log)
    assert attempt.wait() == 1
    assert "a limit on the size of files" in check_said(attempt, store)
    check_nothing_half_written(store)
    finish(undisturbed.job, store, log)
    assert outcomes(store) == undisturbed.outcomes


def test_a_download_names_its_bytes_before_it_begins(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    with mounted(tmp_path / "disk", 64 * 1024) as disk:
        store = disk.folder / "store"
        Store(store).root.mkdir()
        disk.fill(leaving=0)
        attempt = undisturbed.job(store, tmp_path / "log")
        assert attempt.wait() == 1
        file = undisturbed.walk.dataset.files[0]
        said = check_said(attempt, store)
        assert f"{file.name} needs {file.size:,} more bytes, 0 are free" in said


@dataclass(frozen=True)
class Unwritable:
    """A store that cannot be written.

    Attributes
    ----------
    store
        Its root.
    said
        What every error must say.
    """

    store: Path
    said: str


@pytest.fixture(params=["read-only", "a file", "below a file", "a link"])
def unwritable(
    request: pytest.FixtureRequest, undisturbed: Undisturbed, tmp_path: Path
) -> Iterator[Unwritable]:
    file = tmp_path / "file"
    file.write_text("no store")
    if request.param == "a file":
        yield Unwritable(file, "expected a folder for the store, found a file")
    elif request.param == "a link":
        link = tmp_path / "link"
        link.symlink_to("nowhere")
        yield Unwritable(link, "expected a folder for the store, found a link to nowhere, which")
    elif request.param == "below a file":
        yield Unwritable(file / "store", "not a directory")
    else:
        with mounted(tmp_path / "disk", 16 * 1024 * 1024) as disk:
            short = replace(undisturbed.walk, selection=Selection(until="decode"))
            short(disk.folder / "store", tmp_path / "log")
            disk.make_read_only()
            yield Unwritable(disk.folder / "store", "read-only file system")


def test_a_store_that_cannot_be_written(
    unwritable: Unwritable, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    found = unwritable
    walk: LoggedWalk = undisturbed.walk
    with pytest.raises(StoreUnusableError) as caught:
        walk(found.store, tmp_path / "log")
    said = str(caught.value)
    assert found.said in said
    assert str(found.store.parent) in said
    assert "DIGITFLOW_STORE" in said


@pytest.mark.parametrize(
    "command",
    [
        ["plan"],
        ["runs"],
        ["show", "train"],
        ["show", "nothing"],
        ["gc"],
        ["gc", "--apply", "--keep-days", "0"],
        ["verify"],
        ["verify", "--repair"],
    ],
)
def test_commands_on_a_store_that_cannot_be_written(
    unwritable: Unwritable,
    undisturbed: Undisturbed,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = unwritable
    monkeypatch.setenv("DIGITFLOW_STORE", str(found.store))
    if command == ["plan"]:
        command = [*command, "--dataset", undisturbed.walk.dataset.mirrors[0]]
        command += ["--set", "training_sample=0", "test_sample=0"]
    code = main(command)
    written = capsys.readouterr()
    assert code in (0, 1, 2, 3)
    assert "--verbose" not in written.err, written.err
    if code in (1, 2):
        assert written.err.startswith("error: "), written
    if found.said.startswith("expected a folder"):
        assert code == 1
        assert found.said in " ".join(written.err.split())
