"""What sources served: remembered whole, and never believed if damaged."""

from pathlib import Path

import pytest

from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.history.sources import SourceStore
from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage
from digitflow.storage.upkeep.verify import find_damage, repair

SERVED = {"last": {"a.gz": "00"}, "seen": {}}


@pytest.fixture
def sources(tmp_path: Path) -> SourceStore:
    return Store(tmp_path).sources


def test_what_was_served_comes_back(sources: SourceStore) -> None:
    assert sources.load("mnist https://a/") is None
    sources.save("mnist https://a/", SERVED)
    sources.save("../../b", {})
    assert sources.load("mnist https://a/") == SERVED
    assert sources.load("../../b") == {}
    assert len(list(sources.documents.root.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"sha256": "00"}'])
def test_damage_is_said_listed_and_removed(
    sources: SourceStore, tmp_path: Path, damage: bytes
) -> None:
    sources.save("mnist", SERVED)
    path = sources.path("mnist")
    path.write_bytes(damage)
    with pytest.raises(RecordDamagedError, match="damaged"):
        sources.load("mnist")
    store = Store(tmp_path)
    report = find_damage(store)
    assert [(each.kind, store.root / each.name) for each in report.damaged] == [("source", path)]
    repair(store, report)
    assert sources.load("mnist") is None


def test_the_record_of_another_source_is_not_served(sources: SourceStore) -> None:
    sources.save("a", SERVED)
    sources.path("a").rename(sources.path("b"))
    with pytest.raises(RecordDamagedError, match="holds the record of source"):
        sources.load("b")


def test_a_sweep_keeps_them(sources: SourceStore, tmp_path: Path) -> None:
    sources.save("mnist", SERVED)
    assert not find_garbage(Store(tmp_path), 0).items
