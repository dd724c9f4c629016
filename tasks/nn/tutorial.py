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
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.checkpoints import Checkpoint, CheckpointFolder, run_identity
from digitflow.tasks.nn.errors import TrainingDivergedError
from digitflow.tasks.nn.progress import EpochListener, EpochReport
from digitflow.tasks.nn.result import TrainingResult

Floats = NDArray[np.float64]
ReluDerivative = Literal["published", "correct"]

COLUMNS = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


def train_tutorial(
    training_images: Floats,
    training_labels: Floats,
    test_images: Floats,
    test_labels: Floats,
    *,
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
    training_images, test_images : NDArray[float64], shape (n, pixels)
        Pixel values from 0 to 1; may be read-only memory maps.
    training_labels, test_labels : NDArray[float64], shape (n, classes)
        One-hot.
    hidden_size : int
        Units of the hidden layer.
    learning_rate : float
        Step per sample along the summed squared error's gradient (without its factor 2).
    epochs : int
        Passes over the training images.
    seed : int
        Of the one generator behind the initial weights and every dropout mask.
    relu_derivative : {"published", "correct"}
        The derivative that the hidden layer's gradient is multiplied by. The tutorial's is
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
        If images and labels do not fit each other, or there is nothing to train or test on.
    TrainingDivergedError
        At the end of an epoch in which the loss overflowed; `batch` is the first such sample.
    """
    _check("training", training_images, training_labels)
    _check("test", test_images, test_labels)
    rng = np.random.default_rng(seed)
    pixels, classes = training_images.shape[1], training_labels.shape[1]
    weights_1 = 0.2 * rng.random((pixels, hidden_size)) - 0.1
    weights_2 = 0.2 * rng.random((hidden_size, classes)) - 0.1
    history: dict[str, list[Any]] = {column: [] for column in COLUMNS}

    folder = None
    if checkpoints is not None:
        parameters = {
            "tutorial": 1,
            "hidden_size": hidden_size,
            "learning_rate": learning_rate,
            "seed": seed,
            "relu_derivative": relu_derivative,
        }
        data = (training_images, training_labels, test_images, test_labels)
        folder = CheckpointFolder(checkpoints, run_identity(parameters, *data))
        saved = folder.load(at_most=epochs)
        if saved is not None:
            weights_1, weights_2 = saved.arrays["weights_1"], saved.arrays["weights_2"]
            history = saved.state["history"]
            rng.bit_generator.state = saved.state["generator"]

    inked = [image.nonzero()[0] for image in training_images]
    for epoch in range(len(history["epoch"]), epochs):
        start = time.perf_counter()
        masks = rng.integers(0, 2, size=(len(training_images), hidden_size))
        # A learning rate that is too large is reported below, and better than by a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            outputs = _train_epoch(
                training_images,
                inked,
                training_labels,
                masks,
                weights_1,
                weights_2,
                learning_rate,
                masks_dead_units=relu_derivative == "correct",
            )
        _stop_if_diverged(epoch, outputs, training_labels, learning_rate)
        train_loss, train_accuracy = _loss_and_accuracy(outputs, training_labels)
        layer_2 = predict_tutorial(weights_1, weights_2, test_images)
        test_loss, test_accuracy = _loss_and_accuracy(layer_2, test_labels)
        row = (epoch, train_loss, train_accuracy, test_loss, test_accuracy)
        for column, value in zip(COLUMNS, row, strict=True):
            history[column].append(value)
        if folder is not None:
            arrays = {"weights_1": weights_1, "weights_2": weights_2}
            state = {"history": history, "generator": rng.bit_generator.state}
            folder.save(Checkpoint(epoch + 1, arrays, state))
        if progress is not None:
            seconds = time.perf_counter() - start
            speed = len(training_images) / seconds
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
                images_per_second=speed,
            )
            progress(report)

    outputs = predict_tutorial(weights_1, weights_2, test_images)
    losses = np.sum((test_labels - outputs) ** 2, axis=1)
    weights = {"weights_1": weights_1, "weights_2": weights_2}
    return TrainingResult(weights, history, outputs, losses)


def predict_tutorial(weights_1: Floats, weights_2: Floats, images: Floats) -> Floats:
    """Return the outputs (n, classes) for `images` (n, pixels), without dropout."""
    layer_1 = images @ weights_1
    layer_1 *= layer_1 >= 0
    return layer_1 @ weights_2


def _train_epoch(
    images: Floats,
    inked: list[NDArray[np.intp]],
    labels: Floats,
    masks: NDArray[np.int64],
    weights_1: Floats,
    weights_2: Floats,
    learning_rate: float,
    *,
    masks_dead_units: bool,
) -> Floats:
    """Update both weights with one sample after the other.

    `inked` holds for each image the places of its pixels that are not 0. With `masks_dead_units`,
    no gradient reaches hidden units whose value is 0. Returns the outputs
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

    for layer_0, pixels, label, layer_2, keep_1, scale_1 in zip(
        images, inked, labels, outputs, keep, scale, strict=True
    ):
        np.dot(layer_0, weights_1, out=layer_1)
        np.greater_equal(layer_1, 0, out=active)
        layer_1 *= active
        layer_1 *= scale_1
        np.dot(layer_1, weights_2, out=layer_2)

        np.subtract(label, layer_2, out=layer_2_delta)
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


def _loss_and_accuracy(outputs: Floats, labels: Floats) -> tuple[float, float]:
    """Return the mean summed squared error and the share of right answers."""
    loss = np.sum((labels - outputs) ** 2) / len(labels)
    right = np.argmax(outputs, axis=1) == np.argmax(labels, axis=1)
    return float(loss), float(np.mean(right))


def _stop_if_diverged(epoch: int, outputs: Floats, labels: Floats, learning_rate: float) -> None:
    """Raise TrainingDivergedError if a sample's output was so large that its square is not finite.

    The gradient's norm that is reported is that of the squared error in the outputs.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        losses = np.sum((labels - outputs) ** 2, axis=1)
        if np.all(np.isfinite(losses)):
            return
        sample = int(np.argmin(np.isfinite(losses)))
        raise TrainingDivergedError(
            epoch=epoch,
            batch=sample,
            loss=float(losses[sample]),
            gradient_norm=float(2 * np.linalg.norm(labels[sample] - outputs[sample])),
            learning_rate=learning_rate,
            remedies="or another preset, which can clip gradients",
        )


def _check(name: str, images: Floats, labels: Floats) -> None:
    if images.ndim != 2 or labels.ndim != 2 or not 0 < len(images) == len(labels):
        message = (
            f"The {name} images and labels should have shapes (n, pixels) and (n, classes) "
            f"with the same n > 0; found {images.shape} and {labels.shape}. "
            "Flatten the images and one-hot encode the labels first."
        )
        raise ValueError(message)
