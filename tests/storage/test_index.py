"""The index of documents: a help to find them, never what decides."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import Documents, LocalDocuments, checksummed
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.runs import RUNS, RunRecord, digest_of_stages
from digitflow.storage.keys import StageKey
from digitflow.storage.records import RECORDS, Record, now
from tests.finished_runs import a_run

STAGES = ({"key": "ab" * 32, "name": "train"},)


@pytest.fixture
def runs(tmp_path: Path) -> LocalDocuments[RunRecord]:
    return LocalDocuments(RUNS, LocalBackend(tmp_path))


def save(runs: LocalDocuments[RunRecord], *days: int) -> None:
    for day in days:
        runs.save(a_run(f"run-{day}", created=f"2026-01-0{day}T00:00:00+00:00"))


def names(runs: LocalDocuments[RunRecord]) -> list[str]:
    return [run.name for run in runs.newest_first()]


def test_times_in_documents_count_and_not_those_of_files(
    runs: LocalDocuments[RunRecord],
) -> None:
    save(runs, 3, 1, 2)
    assert names(runs) == ["run-3", "run-2", "run-1"]


def test_what_is_new_changed_or_gone_is_seen(runs: LocalDocuments[RunRecord]) -> None:
    save(runs, 3, 1, 2)
    assert names(runs)[0] == "run-3"
    save(runs, 4)
    runs.save(a_run("run-1", created="2026-01-09T00:00:00+00:00"))
    for file in (RUNS.file("run-2"), RUNS.copy("run-2")):
        runs.backend.delete(file)
    assert names(runs) == ["run-1", "run-4", "run-3"]


def test_several_at_once_make_one_index(tmp_path: Path) -> None:
    """Of several that find it out of date one reads, and the others find it done."""
    from concurrent.futures import ThreadPoolExecutor

    def opened() -> LocalDocuments[RunRecord]:
        return LocalDocuments(RUNS, LocalBackend(tmp_path))

    made = opened()
    for number in range(120):
        made.save(a_run(f"run-{number:03}", created="2026-01-01T00:00:00+00:00"))
    read = []
    plain = Documents.bodies

    def bodies(self: Any, wanted: Any) -> Any:
        read.append(len(wanted))
        return plain(self, wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Documents, "bodies", bodies)
        with ThreadPoolExecutor(4) as pool:
            found = [*pool.map(lambda _: names(opened()), range(4))]
    assert [len(each) for each in found] == [120] * 4
    assert sum(read) == 120


def test_only_what_is_asked_for_is_read(
    runs: LocalDocuments[RunRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(runs, *range(1, 9))
    assert len(names(runs)) == 8
    read = []
    plain = Documents.fetch

    def fetch(self: Any, name: str) -> Any:
        read.append(name)
        return plain(self, name)

    monkeypatch.setattr(Documents, "fetch", fetch)
    assert next(iter(runs.newest_first())).name == "run-8"
    assert read == ["run-8"]


def test_files_are_looked_at_only_where_something_was_written(
    runs: LocalDocuments[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []
    plain = Documents.entries

    def entries(self: Any, within: str = "") -> Any:
        looked.append(within)
        return plain(self, within)

    save(runs, 1, 2)
    monkeypatch.setattr(Documents, "entries", entries)
    assert names(runs) == ["run-2", "run-1"]
    assert names(runs) == ["run-2", "run-1"]
    assert len(looked) == 2  # the times of the folders are too young to tell anything
    for folder in ("runs", "copies/runs"):
        os.utime(tmp_path / folder, (1.7e9, 1.7e9))
    assert names(runs) == ["run-2", "run-1"]
    assert len(looked) == 3
    assert names(runs) == ["run-2", "run-1"]
    assert len(looked) == 3

    save(runs, 3)
    assert names(runs) == ["run-3", "run-2", "run-1"]
    runs.backend.delete(RUNS.file("run-2"))
    runs.backend.delete(RUNS.copy("run-2"))
    assert names(runs) == ["run-3", "run-1"]


def test_what_is_mended_in_its_place_is_seen(
    runs: LocalDocuments[RunRecord], tmp_path: Path
) -> None:
    """As by copying from a backup, which changes no folder's time."""
    save(runs, 1, 2)
    files = [tmp_path / RUNS.file("run-2"), tmp_path / RUNS.copy("run-2")]
    sound = files[0].read_bytes()

    def written(data: bytes) -> None:
        for file in files:
            file.write_bytes(data)
            os.utime(file.parent, (1.7e9, 1.7e9))

    written(b"{}" + sound[2:])
    for _ in range(2):
        assert [run.name for run in runs.naming(digest_of_stages(()))] == ["run-1"]
    written(sound)
    assert [run.name for run in runs.naming(digest_of_stages(()))] == ["run-2", "run-1"]


def test_a_file_where_the_copies_were_hides_no_run(
    runs: LocalDocuments[RunRecord], tmp_path: Path
) -> None:
    save(runs, 1)
    shutil.rmtree(tmp_path / "copies")
    (tmp_path / "copies").touch()
    assert names(runs) == ["run-1"]


def test_of_records_only_the_stages_are_looked_at_that_have_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = LocalDocuments(RECORDS, LocalBackend(tmp_path))

    def save(stage: str, number: int) -> None:
        key = StageKey(stage, {}, {"number": number}, {})
        outputs = {"made": Artifact("ab" * 32, 1, "file")}
        records.save(Record(key.digest(), stage, key.document(), outputs, "run", now(), 1.0))

    def found() -> list[str]:
        return sorted(each.stage for each in records.naming("ab" * 32))

    assert found() == []
    for stage in ("decode", "train", "train"):
        save(stage, len(found()))
    for stage in ("decode", "train"):
        os.utime(tmp_path / "records" / stage, (1.7e9, 1.7e9))
    assert found() == ["decode", "train", "train"]

    looked = []
    plain = Documents.entries

    def entries(self: Any, within: str = "") -> Any:
        looked.append(within)
        return plain(self, within)

    monkeypatch.setattr(Documents, "entries", entries)
    save("train", 9)
    assert found() == ["decode", "train", "train", "train"]
    shutil.rmtree(tmp_path / "records" / "train")
    assert found() == ["decode"]
    assert {*looked} == {"train"}
    looked.clear()
    assert found() == ["decode"]
    assert looked == []


def test_what_is_sound_and_not_ours_is_found_as_damaged(
    runs: LocalDocuments[RunRecord], tmp_path: Path
) -> None:
    save(runs, 1)
    for body in ({}, {"created": {}, "stages": [{"key": []}]}, {"created": 1, "stages": 2}):
        (tmp_path / RUNS.file("run-2")).write_bytes(checksummed(body))
        assert names(runs) == ["run-1"]
        assert "run-2" in runs.index.newest_first()


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b"no database"),
        lambda path: path.write_bytes(path.read_bytes()[:5000] + b"x" * 3000),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_index_costs_nothing_but_time(
    runs: LocalDocuments[RunRecord], tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    save(runs, 1, 2)
    assert names(runs) == ["run-2", "run-1"]
    harm(tmp_path / "index.sqlite3")
    assert names(runs) == ["run-2", "run-1"]


def test_runs_of_the_same_results_are_found(runs: LocalDocuments[RunRecord]) -> None:
    save(runs, 1, 2)
    assert [run.name for run in runs.naming(digest_of_stages(()))] == ["run-2", "run-1"]
    assert list(runs.naming(digest_of_stages(STAGES))) == []


def test_nothing_is_written_where_there_is_no_store(tmp_path: Path) -> None:
    runs = LocalDocuments(RUNS, LocalBackend(tmp_path / "nowhere"))
    assert names(runs) == []
    assert not (tmp_path / "nowhere").exists()
