import logging
import math
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.feed import Feed
from digitflow.tasks.nn.inference.model_file import to_network
from digitflow.tasks.nn.layers.initialization import INITIALIZERS
from digitflow.tasks.nn.losses import CrossEntropy
from digitflow.tasks.nn.randomness import Randomness, stratified_split
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.reports import (
    BatchReport,
    EpochReport,
    TrainingDivergedError,
    TrainingInterrupted,
    TrainingResult,
)
from digitflow.tasks.nn.training.train import train_network
from digitflow.tasks.nn.training.trainer import COLUMNS, EarlyStopping, Examples

Data = tuple[Any, Any, Any, Any]


def stripes(n: int, seed: int) -> tuple[Any, Any]:
    """Three kinds of noisy 8x8 images: stripes across, stripes down, neither."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = rng.integers(0, 120, (n, 8, 8))
    images[labels == 0, ::2] += 100
    images[labels == 1, :, ::2] += 100
    return images.astype(np.uint8), labels.astype(np.uint8)


@pytest.fixture(scope="module")
def data() -> Data:
    return *stripes(300, 0), *stripes(80, 1)


SMALL = {"hidden_sizes": (16,), "epochs": 6, "batch_size": 32, "validation_size": 60}
EVERYTHING = {
    **SMALL,
    "convolution_channels": (4,),
    "dropout": 0.3,
    "shift": 1,
    "elastic": 0.3,
    "weight_decay": 1e-4,
    "gradient_clip_norm": 5.0,
    "label_smoothing": 0.1,
    "patience": 4,
    "warm_up_epochs": 1.0,
    "batch_normalization": True,
}
KINDS = [
    SMALL,
    {**SMALL, "optimizer": "sgd", "nesterov": True, "learning_rate": 0.05, "dropout": 0.5},
    EVERYTHING,
]


def train(data: Data, settings: dict[str, Any], **options: Any) -> TrainingResult:
    return train_network(*data, settings=TrainingSettings(**settings), **options)


def assert_same(first: TrainingResult, second: TrainingResult) -> None:
    assert repr(first.history) == repr(second.history)
    assert first.weights.keys() == second.weights.keys()
    for name in first.weights:
        assert first.weights[name].tobytes() == second.weights[name].tobytes(), name
    assert first.outputs.tobytes() == second.outputs.tobytes()
    assert first.losses.tobytes() == second.losses.tobytes()


VARIANTS: list[dict[str, Any]] = [
    {},
    {"hidden_sizes": (16, 12, 8)},
    {"hidden_sizes": ()},
    {"loss": "squared_error"},
    {"batch_size": 240},
    {"dtype": "float64", "bias": False, "initialization": "glorot"},
    {"initialization": "tutorial", "schedule": "constant"},
    {"schedule": "step", "warm_up_epochs": 2.0},
    {"schedule": "cosine", "optimizer": "adamw", "weight_decay": 0.01},
    {"optimizer": "sgd", "learning_rate": 0.05},
    {"optimizer": "sgd", "learning_rate": 0.05, "nesterov": True, "gradient_clip_norm": 1.0},
    {"batch_normalization": True, "dropout": 0.2, "label_smoothing": 0.1},
    {"convolution_channels": (4, 8)},
    {"convolution_channels": (6,), "global_average_pooling": True, "batch_normalization": True},
    {"convolution_channels": (4,), "kernel_size": 5, "shift": 1, "rotation": 5.0, "scale": 0.1},
    {"validation_size": 0},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_next_step_of_the_tutorial_learns(data: Data, variant: dict[str, Any]) -> None:
    settings = {**SMALL, "epochs": 25, "learning_rate": 0.01, **variant}
    result = train(data, settings)
    assert np.mean(result.outputs.argmax(axis=1) == data[3]) >= 0.9
    assert tuple(result.history) == COLUMNS
    assert result.history["epoch"] == list(range(25))
    assert result.history["train_loss"][-1] < result.history["train_loss"][0]
    assert result.outputs.shape == (80, 3)
    assert result.losses.shape == (80,)


@pytest.mark.parametrize("settings", KINDS)
def test_the_same_seed_gives_the_same_bytes(data: Data, settings: dict[str, Any]) -> None:
    assert_same(train(data, settings), train(data, settings))
    other = train(data, {**settings, "seed": 1})
    assert other.history != train(data, settings).history


def test_the_test_set_changes_nothing_but_its_own_results(data: Data) -> None:
    with_other_test_set = (*data[:2], *stripes(50, 9))
    first, second = train(data, SMALL), train(with_other_test_set, SMALL)
    assert repr(first.history) == repr(second.history)
    assert first.weights["0_Dense.weights"].tobytes() == second.weights["0_Dense.weights"].tobytes()


def test_validation_sees_the_held_back_images_as_they_are(data: Data) -> None:
    settings = {**SMALL, "epochs": 2, "shift": 3, "dropout": 0.5, "dtype": "float64"}
    result = train(data, settings)
    _, held_back = stratified_split(data[1], 60, Randomness.from_seed(0).split)
    logits = to_network(result.weights).predict(data[0][held_back])
    losses = CrossEntropy(3, dtype="float64").forward(logits, data[1][held_back])
    assert result.history["validation_loss"][-1] == pytest.approx(losses.mean(), rel=1e-12)
    accuracy = np.mean(logits.argmax(axis=1) == data[1][held_back])
    assert result.history["validation_accuracy"][-1] == accuracy


def test_memory_maps_are_read_only_and_give_the_same_bytes(data: Data, tmp_path: Path) -> None:
    mapped = []
    for index, array in enumerate(data):
        np.save(tmp_path / f"{index}.npy", array)
        mapped.append(np.load(tmp_path / f"{index}.npy", mmap_mode="r", allow_pickle=False))
    assert_same(train(tuple(mapped), EVERYTHING), train(data, EVERYTHING))


def test_parts_of_a_batch_add_up_to_the_batch(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**SMALL, "convolution_channels": (4,), "batch_size": 100, "dtype": "float64"}
    results = []
    for size in (32, 100):
        monkeypatch.setattr("digitflow.tasks.nn.network.CONVOLUTION_PASS", size)
        results.append(train(data, settings))
    for column in COLUMNS:
        np.testing.assert_allclose(
            results[0].history[column], results[1].history[column], rtol=1e-9
        )
    np.testing.assert_allclose(results[0].outputs, results[1].outputs, rtol=1e-8, atol=1e-10)


class Killed(Exception):
    """Stands for the end of the process between two epochs."""


def kill_after(epoch: int) -> Any:
    def listener(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise Killed

    return listener


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize("epoch", [0, 2, 4])
def test_a_killed_training_goes_on_to_the_same_bytes(
    data: Data, tmp_path: Path, settings: dict[str, Any], epoch: int
) -> None:
    expected = train(data, settings)
    with pytest.raises(Killed):
        train(data, settings, checkpoints=tmp_path, progress=kill_after(epoch))
    seen: list[EpochReport] = []
    resumed = train(data, settings, checkpoints=tmp_path, progress=seen.append)
    assert seen[0].epoch == epoch + 1
    assert_same(resumed, expected)
    # Once more, from the finished state: nothing is trained again.
    again = train(data, settings, checkpoints=tmp_path, progress=kill_after(seen[-1].epoch))
    assert_same(again, expected)


KILLED_PROCESS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import train_network

def die(report):
    if (report.epoch, report.batch) == (2, 5):
        os.kill(os.getpid(), signal.SIGKILL)

data = [np.load(f"{sys.argv[1]}/{index}.npy") for index in range(4)]
settings = TrainingSettings.model_validate_json(sys.argv[2])
folder = Path(sys.argv[1], "checkpoints")
train_network(*data, settings=settings, batch_progress=die, checkpoints=folder)
"""


def test_a_process_killed_inside_an_epoch_is_gone_on_from(data: Data, tmp_path: Path) -> None:
    for index, array in enumerate(data):
        np.save(tmp_path / f"{index}.npy", array)
    settings = TrainingSettings(**EVERYTHING).model_dump_json()
    command = [sys.executable, "-c", KILLED_PROCESS, str(tmp_path), settings]
    root = Path(__file__).resolve().parents[2]
    # As many BLAS threads as here, since their number may change the last bits.
    assert subprocess.run(command, cwd=root, check=False).returncode == -signal.SIGKILL
    seen: list[EpochReport] = []
    folder = tmp_path / "checkpoints"
    resumed = train(data, EVERYTHING, checkpoints=folder, progress=seen.append)
    assert seen[0].epoch == 2
    assert_same(resumed, train(data, EVERYTHING))


def test_damaged_checkpoints_are_passed_over(
    data: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = train(data, SMALL)
    with pytest.raises(Killed):
        train(data, SMALL, checkpoints=tmp_path, progress=kill_after(3))
    saved = sorted(tmp_path.glob("*.npz"))
    assert len(saved) == 2
    for path in saved:
        path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        resumed = train(data, SMALL, checkpoints=tmp_path)
    assert caplog.text.count("is damaged") == 2
    assert_same(resumed, expected)


@pytest.mark.parametrize("change", [{"learning_rate": 0.002}, {"seed": 3}, {"epochs": 7}])
def test_checkpoints_of_other_settings_are_not_used(
    data: Data, tmp_path: Path, change: dict[str, Any]
) -> None:
    train(data, SMALL, checkpoints=tmp_path)
    changed = {**SMALL, **change}
    assert_same(train(data, changed, checkpoints=tmp_path), train(data, changed))


def test_early_stopping_ends_with_the_weights_of_the_best_epoch(data: Data, tmp_path: Path) -> None:
    settings = {**SMALL, "epochs": 60, "patience": 3, "learning_rate": 0.02}
    # Random labels cannot be generalised from, so the validation loss soon rises.
    noisy = (data[0], np.random.default_rng(2).integers(0, 3, 300), *data[2:])
    result = train(noisy, settings)
    losses = result.history["validation_loss"]
    best = int(np.argmin(losses))
    assert len(losses) == best + 3 + 1 < 60
    with pytest.raises(Killed):
        train(noisy, settings, checkpoints=tmp_path, progress=kill_after(best))
    with np.load(max(tmp_path.glob("*.npz")), allow_pickle=False) as checkpoint:
        at_best = checkpoint["array/network/0_Dense.weights"]
    assert result.weights["0_Dense.weights"].tobytes() == at_best.tobytes()


def test_divergence_stops_at_once_and_says_what_to_try(data: Data) -> None:
    settings = {**SMALL, "optimizer": "sgd", "learning_rate": 10.0, "loss": "squared_error"}
    with pytest.raises(TrainingDivergedError) as caught:
        train(data, settings)
    error = caught.value
    assert error.epoch == 0
    assert error.batch < 8
    assert not error.loss <= 1000
    assert "learning rate ten times smaller" in str(error)
    assert f"epoch 0, batch {error.batch}" in str(error)
    assert "norm" in str(error)


def test_nan_in_the_weights_is_noticed_in_the_first_batch(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(rng: Any, shape: Any, fan_in: int, fan_out: int) -> Any:
        return np.full(shape, np.nan)

    monkeypatch.setitem(INITIALIZERS, "he", poisoned)
    with pytest.raises(TrainingDivergedError, match="epoch 0, batch 0: the loss is nan"):
        train(data, SMALL)


def test_ctrl_c_stops_after_the_batch_and_training_goes_on_later(
    data: Data, tmp_path: Path
) -> None:
    expected = train(data, SMALL)
    batches: list[BatchReport] = []

    def press(report: BatchReport) -> None:
        batches.append(report)
        if (report.epoch, report.batch) == (2, 3):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted, match=r"epoch 2 after batch 2.*go on"):
        train(data, SMALL, checkpoints=tmp_path, batch_progress=press)
    assert (batches[-1].epoch, batches[-1].batch, batches[-1].batches) == (2, 3, 8)
    assert signal.getsignal(signal.SIGINT) is before
    seen: list[EpochReport] = []
    resumed = train(data, SMALL, checkpoints=tmp_path, progress=seen.append)
    assert seen[0].epoch == 2
    assert_same(resumed, expected)


def test_trains_in_other_threads_than_the_main_one(data: Data) -> None:
    results: list[TrainingResult] = []
    thread = threading.Thread(target=lambda: results.append(train(data, SMALL)))
    thread.start()
    thread.join()
    assert_same(results[0], train(data, SMALL))


def test_reports_and_history_agree(data: Data) -> None:
    reports: list[EpochReport] = []
    result = train(data, SMALL, progress=reports.append)
    assert [r.train_loss for r in reports] == result.history["train_loss"]
    assert {r.held_out for r in reports} == {"validation"}
    assert [r.numbers()["validation_accuracy"] for r in reports] == (
        result.history["validation_accuracy"]
    )
    assert [r.learning_rate for r in reports] == result.history["learning_rate"]
    assert all(r.images_per_second > 0 for r in reports)


def test_without_a_validation_set_nothing_is_reported_of_one(data: Data) -> None:
    reports: list[EpochReport] = []
    train(data, {**SMALL, "validation_size": 0, "epochs": 1}, progress=reports.append)
    assert reports[0].held_out is None
    assert not any(name.startswith(("test", "validation")) for name in reports[0].numbers())


NORMALIZED = {**SMALL, "batch_normalization": True, "epochs": 2, "learning_rate": 0.01}


@pytest.mark.parametrize("batch_size", [2, 3, 7, 29, 238, 239, 240])
@pytest.mark.parametrize("convolution_channels", [(), (3,)])
def test_a_single_image_left_over_joins_the_batch_before_it(
    data: Data, batch_size: int, convolution_channels: tuple[int, ...]
) -> None:
    settings = {**NORMALIZED, "batch_size": batch_size, "validation_size": 61}
    settings["convolution_channels"] = convolution_channels
    batches: list[BatchReport] = []
    result = train(data, settings, batch_progress=batches.append)
    assert len(result.history["epoch"]) == 2
    assert all(np.isfinite(result.history["train_loss"]))
    last = 239 % batch_size
    assert batches[-1].batches == 239 // batch_size + (last > 1)


def test_batch_normalization_of_one_image_is_refused_before_training(data: Data) -> None:
    with pytest.raises(ValueError, match="batch_size=2 or more"):
        TrainingSettings(batch_normalization=True, batch_size=1)
    one = (data[0][:1], data[1][:1], *data[2:])
    reports: list[BatchReport] = []
    with pytest.raises(ValueError, match="expected training images ≥ 2, found 1"):
        train(one, {**NORMALIZED, "validation_size": 0}, batch_progress=reports.append)
    assert reports == []


def test_convolutions_alone_can_be_normalized_image_by_image(data: Data) -> None:
    settings = {**NORMALIZED, "batch_size": 1, "convolution_channels": (3,), "hidden_sizes": ()}
    assert all(np.isfinite(train(data, settings).history["train_loss"]))


def test_convolutions_learn_image_by_image(data: Data) -> None:
    settings = {**SMALL, "convolution_channels": (3,), "batch_size": 1, "epochs": 1}
    start = train(data, {**settings, "learning_rate": 1e-12}).weights
    end = train(data, {**settings, "learning_rate": 0.01}).weights
    assert start.keys() == end.keys()
    for name in start.keys() - {"architecture"}:
        assert np.abs(end[name] - start[name]).max() > 1e-3, name


def test_the_gradient_norm_is_that_before_the_step(data: Data) -> None:
    whole = {**SMALL, "batch_size": 240, "epochs": 1}
    adam = train(data, whole).history["gradient_norm"][0]
    clipped = train(data, {**whole, "gradient_clip_norm": 0.01}).history["gradient_norm"][0]
    sgd = train(data, {**whole, "optimizer": "sgd"}).history["gradient_norm"][0]
    assert adam == sgd == clipped
    # The length of the step that plain SGD makes is the learning rate times that norm.
    start = {**whole, "optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}
    before = train(data, {**start, "learning_rate": 1e-12}).weights
    after = train(data, {**start, "learning_rate": 0.5}).weights
    names = [name for name in before if name != "architecture"]
    moved = np.sqrt(sum(float(np.sum((after[n] - before[n]) ** 2)) for n in names))
    assert moved == pytest.approx(0.5 * sgd, rel=1e-4)


def test_without_a_validation_set_its_columns_are_nan(data: Data) -> None:
    history = train(data, {**SMALL, "validation_size": 0}).history
    assert all(math.isnan(value) for value in history["validation_loss"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d[0] / 255, *d[1:]), "training images should be uint8"),
        (lambda d: (d[0], d[1][:-1], *d[2:]), r"found uint8 \(300, 8, 8\) and \(299,\)"),
        (lambda d: (*d[:3], d[3] + 5), "With 3 classes, labels go up to 2; found 7"),
        (lambda d: (d[0], d[1].astype(float), *d[2:]), "whole numbers from 0"),
    ],
)
def test_data_that_does_not_fit_is_refused(data: Data, change: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(change(data), SMALL)


def test_more_validation_images_than_there_are_is_refused(data: Data) -> None:
    with pytest.raises(ValueError, match="0 to 297 can be held back; asked for 300"):
        train(data, {**SMALL, "validation_size": 300})


def test_early_stopping_keeps_the_first_of_equally_good_epochs() -> None:
    stopping = EarlyStopping(patience=2)
    weights = {"w": np.zeros(1)}
    stops = [stopping.should_stop(epoch, 0.5, {"w": weights["w"] + epoch}) for epoch in range(3)]
    assert stops == [False, False, True]
    assert (stopping.best_epoch, stopping.best["w"][0]) == (0, 0)


@pytest.mark.parametrize("row", [-1, 4])
def test_examples_that_are_not_there_are_refused(row: int) -> None:
    feed = Feed(np.zeros((4, 2), np.uint8), (2,), np.float32)
    with pytest.raises(ValueError, match=r"from 0 to 3, .*found .*"):
        Examples(feed, np.zeros(4, np.intp), np.array([0, row]))


def test_one_image_left_by_the_validation_set_is_refused_with_what_works(data: Data) -> None:
    """Only where there is one class: of each class one is left."""
    images, labels, *test = data
    settings = {**NORMALIZED, "validation_size": len(images) - 1}
    with pytest.raises(ValueError, match=f"validation_size: expected at most {len(images) - 2}"):
        train((images, np.zeros_like(labels), test[0], np.zeros_like(test[1])), settings)
