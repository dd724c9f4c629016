"""The network of NumPy's tutorial "Deep learning on MNIST", to the last bit.

Two weight matrices without biases, ReLU, dropout of one half, squared error, one sample at a
time, in order. The arithmetic is the tutorial's, operation by operation; what is gained over
its own loop comes from three things that change no bit:

- results go into arrays that exist already,
- an epoch's dropout masks are drawn at once, which takes the same numbers from the generator
  as one draw per sample,
- where a pixel is 0 its row of `weights_1` would change by 0, so only the other rows are
  updated (four in five pixels of MNIST are 0).

Source: https://numpy.org/numpy-tutorials/tutorial-deep-learning-on-mnist/ (adapted there from
Andrew Trask, "Grokking Deep Learning").
"""

import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.feed import check_examples, count_classes
from digitflow.tasks.nn.training.checkpoints import Checkpoint, CheckpointFolder, run_identity
from digitflow.tasks.nn.training.reports import (
    EpochListener,
    EpochReport,
    History,
    TrainingDivergedError,
    TrainingResult,
)

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]
ReluDerivative = Literal["published", "correct"]

COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")

# Images at once in eight bytes a pixel, in training and in prediction. The latter is more than a
# usual test set has: BLAS may round the rows of another number of images otherwise.
_TRAINING_PASS = 1024
_PREDICTION_PASS = 16_384


def train_tutorial(
    training_images: NDArray[np.uint8],
    training_labels: Labels,
    test_images: NDArray[np.uint8],
    test_labels: Labels,
    *,
    classes: int | None = None,
    hidden_size: int = 100,
    learning_rate: float = 0.005,
    epochs: int = 20,
    seed: int = 884736743,
    relu_derivative: ReluDerivative = "published",
    progress: EpochListener | None = None,
    checkpoints: Path | None = None,
) -> TrainingResult:
    """Train as the tutorial does and test after every epoch.

    Parameters
    ----------
    training_images, test_images : NDArray[uint8], shape (n, height, width)
        Pixels from 0 to 255; may be read-only memory maps.
    training_labels, test_labels : NDArray[int], shape (n,)
        Classes from 0.
    classes : int, optional
        Number of classes; by default as many as the largest training label says, at least 2.
    hidden_size : int
        Units of the hidden layer, at least 1.
    learning_rate : float
        Step per sample along the summed squared error's gradient (without its factor 2).
    epochs : int
        Passes over the training images, at least 1.
    seed : int
        Seed of the one generator behind the initial weights and every dropout mask.
    relu_derivative : {"published", "correct"}
        Derivative that the hidden layer's gradient is multiplied by. The tutorial's is
        ``layer_1 >= 0`` of what comes out of ReLU, which is always 1, so that units that are
        switched off learn as well; the correct one is ``layer_1 > 0``. See `docs/network.md`.
    progress : callable, optional
        Called with an `EpochReport` after every epoch.
    checkpoints : Path, optional
        Folder for checkpoints; a run that was killed goes on from the last one there and ends
        with the same bytes as one that was not.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ValueError
        If images and labels do not fit each other, there is nothing to train or test on, or a
        label is out of range.
    TrainingDivergedError
        At the end of an epoch in which the loss overflowed; `batch` is the first such sample.
    """
    check_examples("training", training_images, training_labels)
    check_examples("test", test_images, test_labels)
    classes = count_classes(classes, training_labels, test_labels)
    rng = np.random.default_rng(seed)
    pixels = prod(training_images.shape[1:])
    weights_1 = 0.2 * rng.random((pixels, hidden_size)) - 0.1
    weights_2 = 0.2 * rng.random((hidden_size, classes)) - 0.1
    history: History = {column: [] for column in COLUMNS}

    folder = None
    if checkpoints is not None:
        parameters = {
            "tutorial": 1,
            "classes": classes,
            "hidden_size": hidden_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "relu_derivative": relu_derivative,
        }
        data = (training_images, training_labels, test_images, test_labels)
        folder = CheckpointFolder(checkpoints, run_identity(parameters, *data))
        saved = folder.load(at_most=epochs)
        if saved is not None:
            weights_1, weights_2 = (saved.arrays["network"][w] for w in ("weights_1", "weights_2"))
            history = saved.state["history"]
            rng.bit_generator.state = saved.state["generator"]

    inked = [image.ravel().nonzero()[0] for image in training_images]
    training_targets, test_targets = np.eye(classes)[training_labels], np.eye(classes)[test_labels]
    weights = {"weights_1": weights_1, "weights_2": weights_2}
    for epoch in range(len(history["epoch"]), epochs):
        start = time.perf_counter()
        masks = rng.integers(0, 2, size=(len(training_images), hidden_size))
        # A learning rate that is too large is reported below, and better than by a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = _train_epoch(
                training_images,
                inked,
                training_targets,
                masks,
                weights_1,
                weights_2,
                learning_rate,
                masks_dead_units=relu_derivative == "correct",
            )
        _stop_if_diverged(epoch, outputs, training_targets, learning_rate)
        train_loss, train_accuracy = _loss_and_accuracy(outputs, training_targets)
        outputs = predict_tutorial(weights_1, weights_2, test_images)
        test_loss, test_accuracy = _loss_and_accuracy(outputs, test_targets)
        row = (epoch, train_loss, train_accuracy, test_loss, test_accuracy)
        for column, value in zip(COLUMNS, row, strict=True):
            history[column].append(value)
        if folder is not None:
            state = {"history": history, "generator": rng.bit_generator.state}
            folder.save(Checkpoint(epoch + 1, {"network": weights}, state))
        if progress is not None:
            seconds = time.perf_counter() - start
            report = EpochReport(
                epoch,
                epochs,
                train_loss=train_loss,
                train_accuracy=train_accuracy,
                held_out="test",
                held_out_loss=test_loss,
                held_out_accuracy=test_accuracy,
                learning_rate=learning_rate,
                seconds=seconds,
                images_per_second=len(training_images) / seconds,
            )
            progress(report)

    outputs = predict_tutorial(weights_1, weights_2, test_images)
    losses = np.sum((test_targets - outputs) ** 2, axis=1)
    return TrainingResult(weights, history, outputs, losses)


def predict_tutorial(weights_1: Floats, weights_2: Floats, images: NDArray[Any]) -> Floats:
    """Return the outputs (n, classes) for `images`, without dropout.

    Parameters
    ----------
    weights_1, weights_2 : NDArray[float64], shape (pixels, hidden) and (hidden, classes)
        Trained weights.
    images : NDArray, shape (n, height, width) or (n, pixels)
        uint8 from 0 to 255, or floats from 0 to 1.
    """
    outputs = np.empty((len(images), weights_2.shape[1]))
    for start in range(0, len(images), _PREDICTION_PASS):
        part = slice(start, start + _PREDICTION_PASS)
        layer_1 = _flat(images[part]) @ weights_1
        layer_1 *= layer_1 >= 0
        outputs[part] = layer_1 @ weights_2
    return outputs


def _flat(images: NDArray[Any]) -> Floats:
    """Return a row (pixels,) for each image, as float64 from 0 to 1."""
    rows = images.reshape(len(images), prod(images.shape[1:]))
    return rows / 255 if rows.dtype == np.uint8 else rows.astype(np.float64)


def _flat_one_by_one(images: NDArray[np.uint8]) -> Iterator[Floats]:
    for start in range(0, len(images), _TRAINING_PASS):
        yield from _flat(images[start : start + _TRAINING_PASS])


def _train_epoch(
    images: NDArray[np.uint8],
    inked: list[NDArray[np.intp]],
    targets: Floats,
    masks: NDArray[np.int64],
    weights_1: Floats,
    weights_2: Floats,
    learning_rate: float,
    *,
    masks_dead_units: bool,
) -> Floats:
    """Update both weights with one sample after the other.

    `inked` holds for each image the places of its pixels that are not 0, `targets` one-hot rows.
    With `masks_dead_units`, no gradient reaches hidden units whose value is 0. Returns the outputs
    (n, classes) as they were before each sample's update.
    """
    hidden_size, classes = weights_2.shape
    outputs = np.empty((len(images), classes))
    layer_1, layer_1_delta = np.empty(hidden_size), np.empty(hidden_size)
    layer_2_delta = np.empty(classes)
    active = np.empty(hidden_size, dtype=bool)
    rows, step_1 = np.empty_like(weights_1), np.empty_like(weights_1)
    step_2 = np.empty_like(weights_2)
    keep = masks.astype(np.float64)
    scale = keep * 2

    for layer_0, pixels, target, layer_2, keep_1, scale_1 in zip(
        _flat_one_by_one(images), inked, targets, outputs, keep, scale, strict=True
    ):
        np.dot(layer_0, weights_1, out=layer_1)
        np.greater_equal(layer_1, 0, out=active)
        layer_1 *= active
        layer_1 *= scale_1
        np.dot(layer_1, weights_2, out=layer_2)

        np.subtract(target, layer_2, out=layer_2_delta)
        np.dot(weights_2, layer_2_delta, out=layer_1_delta)
        if masks_dead_units:
            layer_1_delta *= np.greater(layer_1, 0, out=active)
        # Otherwise the factor is the tutorial's `layer_1 >= 0`, which is always 1: after ReLU and
        # dropout no value of layer_1 is negative.
        layer_1_delta *= keep_1

        # An outer product as a matrix product of a column and a row: the same bits, and BLAS
        # is twice as fast as np.outer.
        row, step = rows[: len(pixels)], step_1[: len(pixels)]
        np.dot(layer_0[pixels][:, None], layer_1_delta[None, :], out=step)
        step *= learning_rate
        weights_1.take(pixels, axis=0, out=row, mode="clip")
        row += step
        weights_1[pixels] = row
        np.dot(layer_1[:, None], layer_2_delta[None, :], out=step_2)
        step_2 *= learning_rate
        weights_2 += step_2
    return outputs


def _loss_and_accuracy(outputs: Floats, targets: Floats) -> tuple[float, float]:
    """Return the mean summed squared error and the share of right answers."""
    loss = np.sum((targets - outputs) ** 2) / len(targets)
    right = np.argmax(outputs, axis=1) == np.argmax(targets, axis=1)
    return float(loss), float(np.mean(right))


def _stop_if_diverged(epoch: int, outputs: Floats, targets: Floats, learning_rate: float) -> None:
    """Raise TrainingDivergedError if a sample's output was so large that its square is not finite.

    The gradient's norm that is reported is that of the squared error in the outputs.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        losses = np.sum((targets - outputs) ** 2, axis=1)
        if np.all(np.isfinite(losses)):
            return
        sample = int(np.argmin(np.isfinite(losses)))
        raise TrainingDivergedError(
            epoch=epoch,
            batch=sample,
            loss=float(losses[sample]),
            gradient_norm=float(2 * np.linalg.norm(targets[sample] - outputs[sample])),
            learning_rate=learning_rate,
            remedies="or another preset, which can clip gradients",
        )
