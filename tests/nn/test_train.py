"""A training in parts: stopped after some epochs, and gone on with elsewhere."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.reports import EpochReport
from digitflow.tasks.nn.training.train import train_partly
from tests.nn.test_trainer import EVERYTHING, KINDS, SMALL, Data, assert_same, data, train

__all__ = ["data"]  # a fixture


def part(
    data: Data, settings: dict[str, Any], epochs: int, folder: Path, checkpoint: Path | None = None
) -> tuple[dict[str, list[Any]], Path, list[int]]:
    """Train a part; return its history, a copy of its checkpoint, and the epochs it took."""
    seen: list[EpochReport] = []
    history, file = train_partly(
        *data[:2],
        settings=TrainingSettings(**settings),
        classes=3,
        epochs=epochs,
        checkpoints=folder,
        checkpoint=checkpoint,
        progress=seen.append,
    )
    # As the store keeps it: under a name that says nothing, and nowhere near the others.
    kept = folder.parent / f"kept-{epochs}"
    shutil.copy(file, kept)
    return history, kept, [report.epoch for report in seen]


@pytest.mark.parametrize("settings", KINDS)
def test_ends_with_the_bytes_of_an_undisturbed_one(
    data: Data, settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(data, settings)
    first, checkpoint, seen = part(data, settings, 2, tmp_path / "a")
    assert seen == [0, 1]
    assert first == {name: values[:2] for name, values in whole.history.items()}
    second, checkpoint, seen = part(data, settings, 4, tmp_path / "b", checkpoint)
    assert seen == [2, 3]
    assert second == {name: values[:4] for name, values in whole.history.items()}
    reports: list[EpochReport] = []
    last = train(
        data,
        settings,
        checkpoints=tmp_path / "c",
        checkpoint=checkpoint,
        progress=reports.append,
    )
    assert [report.epoch for report in reports] == [4, 5]
    assert_same(last, whole)


def test_a_part_is_the_same_whatever_it_began_with(data: Data, tmp_path: Path) -> None:
    _, early, _ = part(data, EVERYTHING, 1, tmp_path / "a")
    _, begun, _ = part(data, EVERYTHING, 3, tmp_path / "b", early)
    shutil.move(begun, tmp_path / "begun")
    _, whole, _ = part(data, EVERYTHING, 3, tmp_path / "c")
    assert (tmp_path / "begun").read_bytes() == whole.read_bytes()


def test_a_part_that_stopped_early_stays_stopped(data: Data, tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 30, "patience": 1, "learning_rate": 0.05}
    whole = train(data, settings)
    length = len(whole.history["epoch"])
    assert length < 20
    history, checkpoint, _ = part(data, settings, 20, tmp_path / "a")
    assert len(history["epoch"]) == length
    last = train(data, settings, checkpoints=tmp_path / "b", checkpoint=checkpoint)
    assert_same(last, whole)


def test_a_later_checkpoint_does_not_lengthen_a_part(data: Data, tmp_path: Path) -> None:
    _, later, _ = part(data, SMALL, 4, tmp_path / "a")
    history, file, _ = part(data, SMALL, 2, tmp_path / "b", later)
    assert len(history["epoch"]) == 2
    assert file.read_bytes() == part(data, SMALL, 2, tmp_path / "c")[1].read_bytes()


def test_the_checkpoint_of_another_training_is_passed_over(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, other, _ = part(data, {**SMALL, "seed": 9}, 2, tmp_path / "a")
    (tmp_path / "junk").write_bytes(b"PK nothing")
    for file in (other, tmp_path / "junk"):
        with caplog.at_level(logging.WARNING):
            result = train(data, SMALL, checkpoints=tmp_path / f"for-{file.name}", checkpoint=file)
        assert_same(result, train(data, SMALL))
    assert "is of another training; passing over it" in caplog.text
    assert "is no checkpoint" in caplog.text
