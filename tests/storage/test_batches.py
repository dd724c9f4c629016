import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import LocalDocuments, checksummed
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.history.batches import BATCHES, BatchRecord
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import KEPT_BATCHES, find_garbage, sweep
from digitflow.storage.upkeep.verify import find_damage, repair

BATCH = BatchRecord(
    created="2026-11-23T07:00:00.123+00:00",
    run="quiet-ant",
    model=3,
    class_names=("zero", "one"),
    counts=(4, 6),
    confidence=0.93,
    blank=1,
    unreadable=0,
)


@pytest.fixture
def batches(tmp_path: Path) -> LocalDocuments[BatchRecord]:
    return LocalDocuments(BATCHES, LocalBackend(tmp_path))


def test_a_batch_comes_back(batches: LocalDocuments[BatchRecord]):
    path = batches.path(batches.save(BATCH))
    assert path.name.startswith("20261123T070000123-")
    assert batches.load(path.stem) == BATCH


def test_newest_first_by_their_time_and_damaged_ones_not_at_all(
    batches: LocalDocuments[BatchRecord],
):
    assert list(batches.newest_first()) == []
    days = [replace(BATCH, created=f"2026-11-0{day}T07:00:00+00:00") for day in (2, 3, 1)]
    paths = [batches.path(batches.save(day)) for day in days]
    paths[1].write_text("{}")
    (batches.root / "notes.json").write_text("{}")
    assert list(batches.newest_first()) == [days[0], days[2]]
    assert [name for name, _ in batches.damaged()] == [paths[1].stem]


def test_two_of_the_same_moment_are_two(batches: LocalDocuments[BatchRecord]):
    assert batches.save(BATCH) != batches.save(BATCH)
    assert list(batches.newest_first()) == [BATCH, BATCH]


def test_each_changed_byte_is_noticed(batches: LocalDocuments[BatchRecord]):
    path = batches.path(batches.save(BATCH))
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(RecordDamagedError, match="is damaged"):
            batches.load(path.stem)


@pytest.mark.parametrize(
    "change",
    [
        {"counts": [4]},
        {"counts": [4, -6]},
        {"counts": [4, 6.5]},
        {"counts": 10},
        {"class_names": [0, 1]},
        {"confidence": "high"},
        {"created": "yesterday"},
        {"model": True},
        {"more": 1},
    ],
)
def test_what_is_whole_but_was_never_ours(
    batches: LocalDocuments[BatchRecord], change: dict[str, Any]
):
    path = batches.path(batches.save(BATCH))
    body = json.loads(path.read_text())
    body.pop("sha256")
    path.write_bytes(checksummed({**body, **change}))
    with pytest.raises(RecordDamagedError, match="is damaged"):
        batches.load(path.stem)


class TestInTheStore:
    def test_old_ones_go_but_the_newest_stay(self, store: Store):
        paths = [
            store.batches.path(
                store.batches.save(replace(BATCH, created=f"2026-11-{day:02}T07:00:00+00:00"))
            )
            for day in range(1, 16)
        ]
        for path in paths:
            os.utime(path, (0, 0))
        assert find_garbage(store, keep_days=30).count("batch") == 5
        assert sweep(store, keep_days=30).count("batch") == 5
        assert list(map(store.batches.path, store.batches.entries())) == paths[-KEPT_BATCHES:]

    def test_recent_ones_stay_however_many(self, store: Store):
        for _ in range(15):
            store.batches.save(BATCH)
        assert sweep(store, keep_days=30).count("batch") == 0

    def test_what_a_killed_writer_left_goes(self, store: Store):
        store.batches.save(BATCH)
        left = store.batches.root / ".tmp-abc"
        left.write_text("half")
        os.utime(left, (0, 0))
        assert [store.root / item.name for item in sweep(store, keep_days=30).items] == [left]

    def test_damage_is_found_and_removed(self, store: Store):
        good, bad = (store.batches.path(store.batches.save(BATCH)) for _ in range(2))
        bad.write_text(bad.read_text().replace('"counts":[4,6]', '"counts":[4,7]'))
        report = find_damage(store)
        assert [(each.kind, store.root / each.name) for each in report.damaged] == [("batch", bad)]
        repair(store, report)
        assert list(store.batches.entries()) == [good.stem]
