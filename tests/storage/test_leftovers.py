"""What writers that were killed leave behind goes with a sweep, wherever they wrote."""

import os

import pytest

from digitflow.storage.cache import Cache
from digitflow.storage.gc import find_garbage, sweep

# Of code.json, objects, records, runs, answers of sources, models and their aliases, predictions.
FOLDERS = [
    *(".", "objects/tmp", "records/train", "runs", "sources"),
    *("models/versions", "models/aliases", "batches"),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_temporary_file_goes_once_it_is_old(cache: Cache, folder: str) -> None:
    left = cache.root / folder / ".tmp-abc"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text("half")
    assert find_garbage(cache, keep_days=30).items == []
    os.utime(left, (0, 0))
    assert [cache.root / item.name for item in sweep(cache, keep_days=30).items] == [left]
    assert not left.exists()
