"""What nothing can make again: healed from its copy, never removed, and never swept away around.

Each file that says what is needed is damaged in each way, and everything is old enough to go.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.documents import COPIES
from digitflow.storage.errors import RootUnreadableError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.runs import RUNS
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage, sweep
from digitflow.storage.upkeep.verify import find_damage, repair
from tests.faults.corrupting import empty, flip, replace_by_folder, truncate
from tests.faults.soundness import check_sound, make_old
from tests.finished_runs import a_run

YEAR = 24.0 * 365


def replace_by_loop(path: Path) -> None:
    """Put a link that leads to itself in its place."""
    path.unlink()
    path.symlink_to(path)


def grow(path: Path) -> None:
    """Make it larger than any document is read."""
    os.truncate(path, 17 * 2**20)


DAMAGES: Mapping[str, Callable[[Path], None]] = {
    "flipped": flip,
    "truncated": truncate,
    "emptied": empty,
    "a folder": replace_by_folder,
    "a loop": replace_by_loop,
    "grown": grow,
}


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a champion whose weights nothing else refers to, a run, and a record."""
    store = Store(tmp_path / "store")
    monkeypatch.setenv("DIGITFLOW_STORE", str(store.root))
    outputs = {name: _stored(store, name) for name in ("weights", "predictions")}
    for number in (1, 2):
        store.models.register(
            run="calm-owl",
            preset="quick",
            dataset="MNIST",
            parameters={},
            metrics={},
            training=f"{number:064d}",
            data={},
            class_names=("0", "1"),
            **outputs,
        )
        store.models.promote(number, "first of all")
    store.runs.save(a_run("calm-owl"))
    key = StageKey("squares", {}, {"size": 3}, {})
    compute = {"numbers": np.arange(3)}
    store.cache.obtain(key, "squares", lambda scratch: compute, {"numbers": "npy"}, run="calm-owl")
    make_old(store.root, hours=YEAR)
    return store


def _stored(store: Store, text: str) -> Artifact:
    with store.objects.temporary() as file:
        file.write_text(text)
        sha256, size = store.objects.add(file)
    return Artifact(sha256, size, "file")


def roots(store: Path) -> dict[str, list[Path]]:
    """Return each root's file, and its copy: the ledger heals itself from one of the two."""

    def entry(order: int) -> list[Path]:
        return [store / folder / f"{order:08d}.json" for folder in ("ledger", "ledger-copies")]

    return {
        "champion": entry(3),
        "version": entry(1),
        "alias": entry(4),
        "record": [*store.glob("records/squares/*.json")],
    }


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("root", ["champion", "version", "alias", "record"])
def test_nothing_is_deleted_while_a_root_cannot_be_read(
    filled: Store, root: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = roots(filled.root)[root]
    for path in files:
        DAMAGES[damage](path)
    make_old(filled.root, hours=YEAR)
    before = sorted(filled.root.rglob("*"))

    for command in (["gc"], ["gc", "--apply"], ["gc", "--keep-days", "0", "--apply"]):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert "nothing is deleted" in said
        assert (str(files[0]) if root == "record" else f"{filled.root}/ledger lost") in said
    with pytest.raises(RootUnreadableError):
        sweep(filled, 30)
    assert [path for path in before if not os.path.lexists(path)] == []


@pytest.mark.parametrize("root", ["champion", "version", "alias"])
def test_a_repair_removes_no_root_and_says_so(
    filled: Store, root: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = roots(filled.root)[root]
    for path in files:
        flip(path)
    damaged = [path.read_bytes() for path in files]
    assert main(["verify", "--repair"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert [path.read_bytes() for path in files] == damaged
    assert "left as it is" in said
    assert "2 of 2 could not be repaired" in said
    assert "removed" not in said


@pytest.mark.parametrize("folder", ["records", "records/squares", "ledger"])
def test_a_file_in_the_place_of_a_folder_is_seen(
    filled: Store, folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (filled.root / folder).rename(tmp_path / "elsewhere")
    (filled.root / folder).write_text("no folder")
    make_old(filled.root, hours=YEAR)
    objects = list(filled.objects)
    assert main(["gc", "--apply"]) == 1
    assert "expected a folder, found" in capsys.readouterr().err
    assert list(filled.objects) == objects
    assert main(["verify"]) == 1
    assert str(filled.root / folder) in capsys.readouterr().out

    assert main(["verify", "--repair"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    if folder == "ledger":
        assert "left as it is" in said
        assert (filled.root / folder).is_file()
        return
    assert "moved to" in said
    assert [path.read_text() for path in (filled.root / "damaged").iterdir()] == ["no folder"]
    check_sound(filled.root)


def test_a_version_whose_entry_is_gone_is_missed(filled: Store) -> None:
    for path in roots(filled.root)["champion"]:
        path.unlink()
    make_old(filled.root, hours=YEAR)
    with pytest.raises(RootUnreadableError, match="entry 3 of .* lost"):
        sweep(filled, 30)


def test_weights_that_are_lost_are_seen(filled: Store) -> None:
    weights = next(filled.models.oldest_first()).weights.sha256
    filled.objects.path(weights).unlink()
    report = find_damage(filled)
    assert [each.kind for each in report.damaged] == ["model"]
    assert weights[:12] in report.damaged[0].problem
    (done,) = repair(filled, report)
    assert not done.is_healed
    assert "a run of the same training makes it again" in done.done


# What is said of each command that reads runs.
READERS: Mapping[str, Callable[[Store], Any]] = {
    "list": lambda store: [run.name for run in store.runs.newest_first()],
    "load": lambda store: store.runs.load("calm-owl"),
    "damaged": lambda store: list(store.runs.damaged()),
    "gc": lambda store: find_garbage(store, 30),
    "repair": lambda store: repair(store, find_damage(store)),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", [*DAMAGES, "deleted", "the folder", "the folder is a file"])
def test_a_run_is_healed_from_its_copy(
    filled: Store, tmp_path: Path, damage: str, reader: str
) -> None:
    file = filled.runs.path("calm-owl")
    sound = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    elif damage.startswith("the folder"):
        file.parent.rename(tmp_path / "elsewhere")
        if damage == "the folder is a file":
            file.parent.write_text("no folder")
    else:
        DAMAGES[damage](file)
    READERS[reader](filled)
    assert file.read_bytes() == sound
    check_sound(filled.root)


@pytest.mark.parametrize("damage", [*DAMAGES, "deleted", "the folder is a file"])
def test_a_copy_is_healed_from_its_run(filled: Store, tmp_path: Path, damage: str) -> None:
    copy = filled.root / RUNS.copy("calm-owl")
    sound = copy.read_bytes()
    if damage == "deleted":
        copy.unlink()
    elif damage == "the folder is a file":
        (filled.root / COPIES).rename(tmp_path / "elsewhere")
        (filled.root / COPIES).write_text("no folder")
    else:
        DAMAGES[damage](copy)
    assert [run.name for run in filled.runs.newest_first()] == ["calm-owl"]
    assert find_garbage(filled, 30).count("run") == 0
    repair(filled, find_damage(filled))
    assert copy.read_bytes() == sound
    check_sound(filled.root)


def test_runs_of_an_older_digitflow_are_copied_by_the_next_run(filled: Store) -> None:
    (filled.root / RUNS.copy("calm-owl")).unlink()
    filled.runs.save(a_run("next"))
    assert (filled.root / RUNS.copy("calm-owl")).is_file()


def test_with_its_copy_a_run_is_lost_and_nothing_is_deleted(
    filled: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (RUNS.file("calm-owl"), RUNS.copy("calm-owl")):
        flip(filled.root / file)
    assert main(["gc", "--apply"]) == 1
    assert "the record of run calm-owl is damaged" in capsys.readouterr().err
    assert main(["verify", "--repair"]) == 1
    assert "could not be repaired" in capsys.readouterr().out
    assert filled.runs.path("calm-owl").is_file()


def test_a_run_that_is_swept_does_not_come_back(filled: Store) -> None:
    filled.runs.save(a_run("newest"))
    make_old(filled.root, hours=YEAR)
    filled.runs.local.touch(RUNS.file("newest"))
    assert sweep(filled, 30).count("run") == 1
    assert [run.name for run in filled.runs.newest_first()] == ["newest"]
    assert not (filled.root / RUNS.copy("calm-owl")).exists()
