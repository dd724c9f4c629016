import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.batches import BATCHES, BatchRecord, BatchStore
from digitflow.storage.cache import Cache
from digitflow.storage.documents import LocalDocuments, checksummed
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.gc import KEPT_BATCHES, find_garbage, sweep
from digitflow.storage.verify import find_damage, repair

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
def batches(tmp_path: Path) -> BatchStore:
    return BatchStore(LocalDocuments(BATCHES, LocalBackend(tmp_path)))


def test_a_batch_comes_back(batches: BatchStore):
    path = batches.save(BATCH)
    assert path.name.startswith("20261123T070000123-")
    assert batches.documents.load(path.stem) == BATCH


def test_newest_first_by_their_time_and_damaged_ones_not_at_all(batches: BatchStore):
    assert list(batches.newest_first()) == []
    days = [replace(BATCH, created=f"2026-11-0{day}T07:00:00+00:00") for day in (2, 3, 1)]
    paths = [batches.save(day) for day in days]
    paths[1].write_text("{}")
    (batches.documents.root / "notes.json").write_text("{}")
    assert list(batches.newest_first()) == [days[0], days[2]]
    assert [name for name, _ in batches.documents.damaged()] == [paths[1].stem]


def test_two_of_the_same_moment_are_two(batches: BatchStore):
    assert batches.save(BATCH) != batches.save(BATCH)
    assert list(batches.newest_first()) == [BATCH, BATCH]


def test_each_changed_byte_is_noticed(batches: BatchStore):
    path = batches.save(BATCH)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(RecordDamagedError, match="is damaged"):
            batches.documents.load(path.stem)


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
def test_what_is_whole_but_was_never_ours(batches: BatchStore, change: dict[str, Any]):
    path = batches.save(BATCH)
    body = json.loads(path.read_text())
    body.pop("sha256")
    path.write_bytes(checksummed({**body, **change}))
    with pytest.raises(RecordDamagedError, match="is damaged"):
        batches.documents.load(path.stem)


class TestInTheStore:
    def test_old_ones_go_but_the_newest_stay(self, cache: Cache):
        paths = [
            cache.batches.save(replace(BATCH, created=f"2026-11-{day:02}T07:00:00+00:00"))
            for day in range(1, 16)
        ]
        for path in paths:
            os.utime(path, (0, 0))
        assert find_garbage(cache, keep_days=30).count("batch") == 5
        assert sweep(cache, keep_days=30).count("batch") == 5
        assert cache.batches.files() == paths[-KEPT_BATCHES:]

    def test_recent_ones_stay_however_many(self, cache: Cache):
        for _ in range(15):
            cache.batches.save(BATCH)
        assert sweep(cache, keep_days=30).count("batch") == 0

    def test_what_a_killed_writer_left_goes(self, cache: Cache):
        cache.batches.save(BATCH)
        left = cache.batches.documents.root / ".tmp-abc"
        left.write_text("half")
        os.utime(left, (0, 0))
        assert [cache.root / item.name for item in sweep(cache, keep_days=30).items] == [left]

    def test_damage_is_found_and_removed(self, cache: Cache):
        good, bad = cache.batches.save(BATCH), cache.batches.save(BATCH)
        bad.write_text(bad.read_text().replace('"counts": [4, 6]', '"counts": [4, 7]'))
        report = find_damage(cache)
        assert [(each.kind, cache.root / each.name) for each in report.damaged] == [("batch", bad)]
        repair(cache, report)
        assert cache.batches.files() == [good]
