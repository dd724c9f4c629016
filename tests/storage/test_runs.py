import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import LocalDocuments
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.history.runs import RUNS, RunRecord

STAGE = {
    "name": "train",
    "stage": "train",
    "key": "a" * 64,
    "cached": False,
    "reasons": ["never run"],
    "seconds": 1.2,
    "outputs": {"model": {"sha256": "b" * 64, "size": 7, "format": "npz", "details": {}}},
}
RUN = RunRecord(
    name="quiet-ant",
    created="2026-11-23T07:00:00.000+00:00",
    seconds=1.5,
    preset="tutorial",
    dataset="MNIST",
    parameters={"epochs": 20},
    stages=(STAGE,),
    metrics={"test_accuracy": 0.784},
    results="results/quiet-ant",
)


@pytest.fixture
def runs(tmp_path: Path) -> LocalDocuments[RunRecord]:
    return LocalDocuments(RUNS, LocalBackend(tmp_path))


def test_a_run_comes_back(runs: LocalDocuments[RunRecord]):
    runs.save(RUN)
    assert runs.load("quiet-ant") == RUN
    assert runs.path("quiet-ant").name == "quiet-ant.json"


def test_there_is_none(runs: LocalDocuments[RunRecord]):
    with pytest.raises(FileNotFoundError):
        runs.load("quiet-ant")
    assert list(runs.newest_first()) == []
    assert not runs.root.exists()


def test_runs_come_newest_first_and_damaged_ones_not_at_all(runs: LocalDocuments[RunRecord]):
    for number in (3, 1, 4, 2):
        runs.save(replace(RUN, name=f"run-{number}", created=f"2026-01-0{number}T00:00:00Z"))
    runs.path("run-2").write_text("{}")  # which has a copy
    for file in (RUNS.file("run-3"), RUNS.copy("run-3")):
        runs.local.path(file).write_text("{}")
    (runs.root / "notes about runs.json").write_text("{}")
    (runs.root / "folder.json").mkdir()
    assert [run.name for run in runs.newest_first()] == ["run-4", "run-2", "run-1"]


def test_each_changed_byte_is_noticed(runs: LocalDocuments[RunRecord]):
    runs.save(RUN)
    path = runs.path(RUN.name)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(RecordDamagedError, match="the record of run quiet-ant is damaged"):
            runs.examine(RUN.name)
    assert runs.load(RUN.name) == RUN  # from its copy
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"[" * 100_000, b"\xff", b" " * (16 * 2**20 + 1)]
)
def test_what_is_no_run(runs: LocalDocuments[RunRecord], data: bytes):
    runs.root.mkdir()
    runs.path(RUN.name).write_bytes(data)
    with pytest.raises(RecordDamagedError, match="the record of run quiet-ant is damaged"):
        runs.load(RUN.name)


@pytest.mark.parametrize(
    "change",
    [
        {"created": "yesterday"},
        {"created": "2026-11-23T07:00:00"},  # in no time zone
        {"created": "0001-01-01T00:00:00+14:00"},  # before the first day, for most people
        {"seconds": "1.5"},
        {"seconds": True},
        {"seconds": 10**400},
        {"preset": None},
        {"dataset": 5},
        {"results": ["folder"]},
        {"parameters": []},
        {"metrics": {"test_accuracy": "0.784"}},
        {"metrics": None},
        {"stages": ("train",)},
        {"stages": ({**STAGE, "name": 5},)},
        {"stages": ({**STAGE, "cached": "no"},)},
        {"stages": ({**STAGE, "reasons": "never run"},)},
        {"stages": ({**STAGE, "outputs": {"../../x": STAGE["outputs"]["model"]}},)},
        {"stages": ({**STAGE, "outputs": {"model": {}}},)},
        {"stages": ({"name": "train"},)},
    ],
)
def test_a_run_that_we_never_wrote(runs: LocalDocuments[RunRecord], change: dict[str, Any]):
    runs.save(replace(RUN, **change))
    with pytest.raises(RecordDamagedError, match="the record of run quiet-ant is damaged"):
        runs.load(RUN.name)


def test_a_folder_in_place_of_a_run_is_damage(runs: LocalDocuments[RunRecord]):
    runs.path(RUN.name).mkdir(parents=True)
    with pytest.raises(RecordDamagedError, match="is damaged"):
        runs.load(RUN.name)


def test_a_run_in_the_place_of_another_is_not_taken_for_it(runs: LocalDocuments[RunRecord]):
    runs.save(RUN)
    runs.path(RUN.name).replace(runs.path("other"))
    with pytest.raises(RecordDamagedError, match="holds the record of run quiet-ant"):
        runs.load("other")


@pytest.mark.parametrize("name", ["", "../x", "/x", "a/b", ".hidden", "a" * 201, "a\n", "a\0"])
def test_a_name_cannot_become_another_path(runs: LocalDocuments[RunRecord], name: str):
    with pytest.raises(ValueError, match="expected a run name"):
        runs.path(name)


def test_what_is_kept_can_be_read_with_ordinary_tools(runs: LocalDocuments[RunRecord]):
    runs.save(RUN)
    body = json.loads(runs.path(RUN.name).read_text())
    assert body["metrics"] == {"test_accuracy": 0.784}
    assert set(body) == {*vars(RUN), "sha256"}
