"""Large maps are read from their files: the same bytes, without the memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.feed import Feed, FileRows, file_rows
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.checkpoints import run_identity
from digitflow.tasks.nn.training.train import train_network

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 5, 4), np.uint8)
LABELS = np.arange(60) % 3


@pytest.fixture
def _nothing_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digitflow.tasks.nn.feed.MAPPED", 0)


@pytest.fixture
def mapped(tmp_path: Path, _nothing_is_small: None) -> np.memmap[Any, Any]:
    np.save(tmp_path / "x.npy", IMAGES)
    array: np.memmap[Any, Any] = np.load(tmp_path / "x.npy", mmap_mode="r")
    return array


class TestWhichArrays:
    def test_maps_and_views_of_whole_rows(self, mapped: np.memmap[Any, Any]):
        for view, rows in ((mapped, IMAGES), (mapped[7:], IMAGES[7:]), (mapped[:9], IMAGES[:9])):
            file = file_rows(view)
            assert isinstance(file, FileRows)
            out = np.empty((2, 5, 4), np.uint8)
            file.take(np.array([3, 0]), out)
            assert np.array_equal(out, rows[[3, 0]])
        flat = file_rows(mapped.reshape(60, 20))
        assert flat is not None
        flat.read(58, one := np.empty((2, 20), np.uint8))
        assert np.array_equal(one, IMAGES.reshape(60, 20)[58:])

    def test_nothing_else(self, mapped: np.memmap[Any, Any], monkeypatch: pytest.MonkeyPatch):
        others = [IMAGES, mapped[::2], mapped[:, 1:], mapped.transpose(0, 2, 1), mapped.copy()]
        assert [file_rows(each) for each in others] == [None] * 5
        for mode in ("r+", "c"):
            assert file_rows(np.load(str(mapped.filename), mmap_mode=mode)) is None
        monkeypatch.setattr("digitflow.tasks.nn.feed.MAPPED", IMAGES.nbytes)
        assert file_rows(mapped) is None


def test_a_file_that_was_cut_off(mapped: np.memmap[Any, Any]):
    file = file_rows(mapped)
    assert file is not None
    with Path(str(mapped.filename)).open("rb+") as stream:
        stream.truncate(1000)
    with pytest.raises(OSError, match="expected 40 bytes of rows, found 20: the file was cut off"):
        file.take(np.array([0, 59]), np.empty((2, 5, 4), np.uint8))
    with pytest.raises(OSError, match="the file was cut off"):
        file.read(40, np.empty((20, 5, 4), np.uint8))


@pytest.mark.parametrize("rows", [np.array([5, 59, 0, 5]), slice(3, 9), slice(55, None)])
def test_a_feed_loads_the_same(mapped: np.memmap[Any, Any], rows: Any):
    feed, plain = (Feed(images, (20,), np.float32) for images in (mapped, IMAGES))
    for _ in range(2):
        assert np.array_equal(feed.load(rows), plain.load(rows))


def test_identity_is_the_same(mapped: np.memmap[Any, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("digitflow.tasks.nn.training.checkpoints._ROWS_AT_ONCE", 7)
    assert run_identity({}, mapped, LABELS) == run_identity({}, IMAGES, LABELS)


def test_a_training_gives_the_same(mapped: np.memmap[Any, Any], monkeypatch: pytest.MonkeyPatch):
    settings = TrainingSettings(
        hidden_sizes=(8,), epochs=2, batch_size=16, validation_size=7, shift=1
    )
    data = (LABELS, IMAGES[:20], LABELS[:20])
    expected = train_network(IMAGES, *data, settings=settings)
    taken, take = 0, FileRows.take

    def counting(self: FileRows, rows: Any, out: Any) -> None:
        nonlocal taken
        taken += len(rows)
        take(self, rows, out)

    monkeypatch.setattr(FileRows, "take", counting)
    found = train_network(mapped, LABELS, mapped[:20], LABELS[:20], settings=settings)
    # The mean of those that are learnt from, every image in both epochs, and the test images.
    assert taken == 53 + 2 * 60 + 20
    assert found.history == expected.history
    assert np.array_equal(found.outputs, expected.outputs)
