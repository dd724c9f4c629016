import csv
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.training.reports import EpochReport, TrainingDivergedError, TrainingResult
from digitflow.tasks.nn.tutorial import COLUMNS, predict_tutorial, train_tutorial

PUBLISHED = Path(__file__).with_name("tutorial-history.csv")

Data = tuple[Any, Any, Any, Any]


@pytest.fixture(scope="module")
def thousand(mnist: dict[str, Any]) -> Data:
    """The tutorial's data: the first 1,000 images and labels of both sets."""
    training = mnist["training_images"][:1000], mnist["training_labels"][:1000]
    return *training, mnist["test_images"][:1000], mnist["test_labels"][:1000]


@pytest.fixture(scope="module")
def small() -> Data:
    """Forty training and twenty test images with many zero pixels; no download needed."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (60, 5, 6), np.uint8) * (rng.random((60, 5, 6)) < 0.3)
    images[3] = 0
    labels = rng.integers(0, 10, 60)
    labels[0] = 9
    return images[:40], labels[:40], images[40:], labels[40:]


def plain_loop(
    images: Any,
    labels: Any,
    epochs: int,
    *,
    hidden_size: int = 100,
    seed: int = 884736743,
    relu_derivative: str = "published",
) -> tuple[Any, Any]:
    """The computation as one would write it down first."""
    images, labels = images.reshape(len(images), -1) / 255, np.eye(10)[labels]
    rng = np.random.default_rng(seed)
    weights_1 = 0.2 * rng.random((images.shape[1], hidden_size)) - 0.1
    weights_2 = 0.2 * rng.random((hidden_size, 10)) - 0.1
    for _ in range(epochs):
        for layer_0, label in zip(images, labels, strict=True):
            before_relu = np.dot(layer_0, weights_1)
            layer_1 = (before_relu >= 0) * before_relu
            mask = rng.integers(low=0, high=2, size=layer_1.shape)
            layer_1 *= mask * 2
            layer_2 = np.dot(layer_1, weights_2)
            layer_2_delta = label - layer_2
            derivative = layer_1 >= 0 if relu_derivative == "published" else before_relu > 0
            layer_1_delta = np.dot(weights_2, layer_2_delta) * derivative
            layer_1_delta *= mask
            weights_1 += 0.005 * np.outer(layer_0, layer_1_delta)
            weights_2 += 0.005 * np.outer(layer_1, layer_2_delta)
    return weights_1, weights_2


def assert_same(first: TrainingResult, second: TrainingResult) -> None:
    assert first.history == second.history
    assert first.weights.keys() == second.weights.keys()
    for name in first.weights:
        assert first.weights[name].tobytes() == second.weights[name].tobytes()
    assert first.outputs.tobytes() == second.outputs.tobytes()
    assert first.losses.tobytes() == second.losses.tobytes()


@pytest.mark.data
def test_the_published_table_comes_out_in_all_20_rows(thousand: Data) -> None:
    result = train_tutorial(*thousand)
    with PUBLISHED.open(newline="") as file:
        published = list(csv.DictReader(file))
    assert len(published) == 20
    assert list(published[0]) == list(COLUMNS) == list(result.history)
    for index, row in enumerate(published):
        assert result.history["epoch"][index] == int(row["epoch"])
        for column in ("train_loss", "test_loss"):
            assert f"{result.history[column][index]:.3f}" == row[column]
        for column in ("train_accuracy", "test_accuracy"):
            assert result.history[column][index] == float(row[column])
    assert result.outputs.shape == (1000, 10)
    assert result.losses.mean() == pytest.approx(result.history["test_loss"][-1], rel=1e-12)


@pytest.mark.data
def test_weights_are_bit_identical_to_the_plain_loop_on_mnist(thousand: Data) -> None:
    weights_1, weights_2 = plain_loop(thousand[0], thousand[1], epochs=2)
    result = train_tutorial(*thousand, epochs=2)
    assert result.weights["weights_1"].tobytes() == weights_1.tobytes()
    assert result.weights["weights_2"].tobytes() == weights_2.tobytes()


@pytest.mark.parametrize("relu_derivative", ["published", "correct"])
def test_weights_are_bit_identical_to_the_plain_loop_on_other_shapes(
    small: Data, relu_derivative: Any
) -> None:
    given = {"epochs": 3, "hidden_size": 7, "seed": 1, "relu_derivative": relu_derivative}
    weights_1, weights_2 = plain_loop(small[0], small[1], **given)
    result = train_tutorial(*small, **given)
    assert result.weights["weights_1"].tobytes() == weights_1.tobytes()
    assert result.weights["weights_2"].tobytes() == weights_2.tobytes()


@pytest.mark.data
def test_the_correct_derivative_is_worth_two_and_a_half_points(thousand: Data) -> None:
    result = train_tutorial(*thousand, relu_derivative="correct")
    assert result.history["test_accuracy"][-1] == 0.81
    assert f"{result.history['test_loss'][-1]:.3f}" == "0.367"


def test_one_step_worked_by_hand() -> None:
    # default_rng(4) draws 0.9430561, 0.5113276 and then the mask 1: the weights start at
    # w1 = 0.0886112 and w2 = 0.0022655. With x = 51 / 255 = 0.2 and y = 1:
    #   hidden = 2 · 0.2 · w1 = 0.0354445        output = hidden · w2 = 0.0000803
    #   δ₂ = y - output = 0.9999197              δ₁ = w2 · δ₂ = 0.0022653
    #   w1 + 0.005 · 0.2 · δ₁ = 0.0886135        w2 + 0.005 · hidden · δ₂ = 0.0024427
    image, label = np.array([[[51]]], np.uint8), np.array([0])
    result = train_tutorial(image, label, image, label, classes=1, hidden_size=1, epochs=1, seed=4)
    assert result.weights["weights_1"][0, 0] == pytest.approx(0.0886135, abs=5e-8)
    assert result.weights["weights_2"][0, 0] == pytest.approx(0.0024427, abs=5e-8)


def test_inputs_may_be_read_only_and_are_left_alone(small: Data) -> None:
    copies = tuple(array.copy() for array in small)
    for array in copies:
        array.flags.writeable = False
    assert_same(train_tutorial(*copies, epochs=2), train_tutorial(*small, epochs=2))


def test_every_epoch_is_reported(small: Data) -> None:
    reports: list[EpochReport] = []
    result = train_tutorial(*small, epochs=3, progress=reports.append)
    assert [report.epoch for report in reports] == [0, 1, 2]
    assert [report.train_loss for report in reports] == result.history["train_loss"]
    assert {report.held_out for report in reports} == {"test"}
    assert [report.numbers()["test_accuracy"] for report in reports] == (
        result.history["test_accuracy"]
    )
    assert all(report.seconds > 0 and report.images_per_second > 0 for report in reports)


class Killed(Exception):
    """Stands for the end of the process between two epochs."""


def kill_after(epoch: int) -> Any:
    def listener(report: EpochReport) -> None:
        if report.epoch == epoch:
            raise Killed

    return listener


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_a_killed_training_goes_on_to_the_same_bytes(
    small: Data, tmp_path: Path, epoch: int
) -> None:
    expected = train_tutorial(*small, epochs=6)
    with pytest.raises(Killed):
        train_tutorial(*small, epochs=6, checkpoints=tmp_path, progress=kill_after(epoch))
    seen: list[EpochReport] = []
    resumed = train_tutorial(*small, epochs=6, checkpoints=tmp_path, progress=seen.append)
    assert [report.epoch for report in seen] == list(range(epoch + 1, 6))
    assert_same(resumed, expected)


def test_a_finished_training_is_not_repeated(small: Data, tmp_path: Path) -> None:
    expected = train_tutorial(*small, epochs=3, checkpoints=tmp_path)
    again = train_tutorial(*small, epochs=3, checkpoints=tmp_path, progress=kill_after(2))
    assert_same(again, expected)


def test_a_damaged_checkpoint_costs_an_epoch_and_is_said(
    small: Data, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = train_tutorial(*small, epochs=4)
    train_tutorial(*small, epochs=3, checkpoints=tmp_path)
    newest = max(tmp_path.glob("*.npz"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    seen: list[EpochReport] = []
    with caplog.at_level(logging.WARNING):
        resumed = train_tutorial(*small, epochs=4, checkpoints=tmp_path, progress=seen.append)
    assert "is damaged" in caplog.text
    assert str(newest) in caplog.text
    assert [report.epoch for report in seen] == [2, 3]
    assert_same(resumed, expected)


def test_a_checkpoint_of_another_run_is_not_used(small: Data, tmp_path: Path) -> None:
    train_tutorial(*small, epochs=2, checkpoints=tmp_path, learning_rate=0.01)
    expected = train_tutorial(*small, epochs=2)
    assert_same(train_tutorial(*small, epochs=2, checkpoints=tmp_path), expected)


def test_fewer_epochs_than_saved_are_trained_afresh(small: Data, tmp_path: Path) -> None:
    train_tutorial(*small, epochs=5, checkpoints=tmp_path)
    expected = train_tutorial(*small, epochs=2)
    assert_same(train_tutorial(*small, epochs=2, checkpoints=tmp_path), expected)


def test_mismatched_images_and_labels_are_refused(small: Data) -> None:
    with pytest.raises(
        ValueError, match=r"training images .* found uint8 \(40, 5, 6\) and \(39,\)"
    ):
        train_tutorial(small[0], small[1][:-1], small[2], small[3])


def test_a_class_that_is_out_of_range_is_refused(small: Data) -> None:
    with pytest.raises(ValueError, match="With 9 classes, labels go up to 8; found 9"):
        train_tutorial(*small, classes=9)
    assert train_tutorial(*small, classes=12, epochs=1).outputs.shape == (20, 12)


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_images_that_are_scaled_at_once_change_no_bit(
    small: Data, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train_tutorial(*small, epochs=2)
    monkeypatch.setattr("digitflow.tasks.nn.tutorial._TRAINING_PASS", size)
    assert_same(train_tutorial(*small, epochs=2), expected)


def test_divergence_is_reported_with_its_sample(small: Data) -> None:
    with pytest.raises(TrainingDivergedError, match="epoch 0, batch") as caught:
        train_tutorial(*small, learning_rate=10.0, epochs=3)
    assert 0 < caught.value.batch < 40
    assert "learning rate ten times smaller" in str(caught.value)


def test_prediction_uses_no_dropout(small: Data) -> None:
    result = train_tutorial(*small, epochs=2)
    flat = small[2].reshape(20, 30) / 255
    hidden = np.maximum(flat @ result.weights["weights_1"], 0)
    expected = hidden @ result.weights["weights_2"]
    np.testing.assert_allclose(result.outputs, expected, rtol=1e-12)
    for images in (small[2], flat):
        again = predict_tutorial(**result.weights, images=images)
        assert again.tobytes() == result.outputs.tobytes()
