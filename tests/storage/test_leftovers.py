"""What writers that were killed leave behind goes with a sweep, wherever they wrote."""

import os

import pytest

from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import find_garbage, sweep

# Of code.json, objects, records, runs, answers of sources, models and their aliases, predictions.
FOLDERS = [
    *(".", "objects/tmp", "records/train", "runs", "sources"),
    *("models/versions", "models/aliases", "batches", "ledger", "ledger-copies"),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_temporary_file_goes_once_it_is_old(store: Store, folder: str) -> None:
    left = store.root / folder / ".tmp-abc"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("half")
    assert find_garbage(store, keep_days=30).items == []
    os.utime(left, (0, 0))
    assert [store.root / item.name for item in sweep(store, keep_days=30).items] == [left]
    assert not left.exists()
