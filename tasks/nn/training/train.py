"""From settings to a network, and to its training."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.blas import blas_threads
from digitflow.tasks.nn.feed import Rows, check_examples, count_classes, mean_and_deviation
from digitflow.tasks.nn.inference.model_file import to_arrays
from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.losses import LOSSES, Loss
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness, stratified_split
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.augmentation import Augment
from digitflow.tasks.nn.training.checkpoints import CheckpointFolder, run_identity
from digitflow.tasks.nn.training.optimizers import SGD, Adam, AdamW, Optimizer
from digitflow.tasks.nn.training.reports import (
    BatchListener,
    EpochListener,
    History,
    TrainingResult,
)
from digitflow.tasks.nn.training.schedules import SCHEDULES, Schedule, warm_up
from digitflow.tasks.nn.training.trainer import (
    EarlyStopping,
    Examples,
    Training,
    outputs_and_losses,
)


def assemble(settings: TrainingSettings, height: int, width: int, classes: int) -> list[Layer]:
    """Return the layers for images of that size."""
    # Batch normalisation subtracts the mean, so a bias before it would have no effect.
    bias = settings.bias and not settings.batch_normalization
    normalization: list[type[Layer]] = [BatchNorm] if settings.batch_normalization else []
    layers: list[Layer] = []
    for channels in settings.convolution_channels:
        layers.append(
            Conv(
                channels,
                settings.kernel_size,
                bias=bias,
                initialization=settings.initialization,
            )
        )
        # ReLU after pooling gives the same as before it, for a quarter of the work.
        if min(height, width) >= 4:
            layers.append(MaxPool())
            height, width = height // 2, width // 2
        layers += [*(kind() for kind in normalization), ReLU()]
    if settings.convolution_channels:
        layers.append(GlobalAveragePool() if settings.global_average_pooling else Flatten())
    for size in settings.hidden_sizes:
        layers.append(Dense(size, bias=bias, initialization=settings.initialization))
        layers += [*(kind() for kind in normalization), ReLU()]
        if settings.dropout:
            layers.append(Dropout(settings.dropout))
    layers.append(Dense(classes, bias=settings.bias, initialization=settings.initialization))
    return layers


def make_loss(settings: TrainingSettings, classes: int) -> Loss:
    """Return the loss over `classes` outputs."""
    return LOSSES[settings.loss](classes, settings.label_smoothing, settings.dtype)


def make_optimizer(settings: TrainingSettings) -> Optimizer:
    """Return the optimiser."""
    decay = settings.weight_decay
    if settings.optimizer == "sgd":
        return SGD(settings.momentum, nesterov=settings.nesterov, weight_decay=decay)
    return {"adam": Adam, "adamw": AdamW}[settings.optimizer](weight_decay=decay)


def make_schedule(settings: TrainingSettings) -> Schedule:
    """Return the schedule of the learning rate, with its warm-up."""
    schedule = SCHEDULES[settings.schedule]
    share = settings.warm_up_epochs / settings.epochs
    return warm_up(schedule, share) if share else schedule


def split(
    labels: NDArray[np.integer[Any]], settings: TrainingSettings, randomness: Randomness
) -> tuple[Rows, Rows]:
    """Return the rows of training images that are learnt from, and those that validate."""
    present = len(np.unique(labels))
    return stratified_split(labels, settings.held_back(len(labels), present), randomness.split)


def train_network(
    training_images: NDArray[np.uint8],
    training_labels: NDArray[np.integer[Any]],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.integer[Any]],
    *,
    settings: TrainingSettings,
    classes: int | None = None,
    inverted: bool = False,
    progress: EpochListener | None = None,
    batch_progress: BatchListener | None = None,
    checkpoints: Path | None = None,
    checkpoint: Path | None = None,
) -> TrainingResult:
    """Train a network, and try it on the test set once, at the end.

    Parameters
    ----------
    training_images, test_images : NDArray[uint8], shape (n, height, width)
        0 to 255; may be read-only memory maps, of which only batches are read.
    training_labels, test_labels : NDArray[int], shape (n,)
        Whole numbers from 0.
    settings : TrainingSettings
    classes : int, optional
        How many there are; as many as the largest training label says, and at least 2, if not
        given.
    inverted : bool
        The images are dark on light, and are trained on as if they were light on dark.
    progress, batch_progress : callable, optional
        Called after every epoch, and after every batch.
    checkpoints : Path, optional
        Folder for checkpoints; a run that was killed goes on from the last one there and ends
        with the same bytes as one that was not.
    checkpoint : Path, optional
        Of `train_partly` for the same settings and data, to go on from; needs `checkpoints`. It
        changes nothing but the time that it takes.

    Returns
    -------
    TrainingResult
        Its weights hold the network whole: `to_network` in `tasks.nn.inference.model_file` makes
        it again.

    Raises
    ------
    ValueError
        If images and labels do not fit each other, a label is out of range, or more images are
        to be held back than there are.
    TrainingDivergedError
        If the loss became NaN, infinite or absurdly large.
    TrainingInterrupted
        If Ctrl-C was pressed.
    """
    check_examples("training", training_images, training_labels)
    check_examples("test", test_images, test_labels)
    classes = count_classes(classes, training_labels, test_labels)
    training, _ = _prepare(
        training_images,
        training_labels,
        settings,
        classes,
        inverted=inverted,
        progress=progress,
        batch_progress=batch_progress,
        checkpoints=checkpoints,
        checkpoint=checkpoint,
    )
    with blas_threads(settings.blas_threads):
        history = training.fit()
    network, loss = training.network, training.loss
    test = Examples(network.feed(test_images), test_labels, np.arange(len(test_images)))
    # With one thread, like every later prediction.
    with blas_threads(1):
        outputs, losses = outputs_and_losses(network, test, loss)
    return TrainingResult(to_arrays(network), history, outputs, losses)


def train_partly(
    training_images: NDArray[np.uint8],
    training_labels: NDArray[np.integer[Any]],
    *,
    settings: TrainingSettings,
    classes: int,
    epochs: int,
    checkpoints: Path,
    inverted: bool = False,
    checkpoint: Path | None = None,
    progress: EpochListener | None = None,
    batch_progress: BatchListener | None = None,
) -> tuple[History, Path]:
    """Begin the training of `train_network`, and stop after some of its epochs.

    Parameters
    ----------
    training_images, training_labels, settings, classes, inverted, progress, batch_progress
        As for `train_network`. The schedule of the learning rate is that of the whole training.
    epochs : int
        After how many to stop, counted from the beginning of the training.
    checkpoints : Path
        Folder for checkpoints.
    checkpoint : Path, optional
        Of an earlier part, to go on from.

    Returns
    -------
    history, checkpoint
        Of the epochs so far, and the file to go on from.
    """
    check_examples("training", training_images, training_labels)
    classes = count_classes(classes, training_labels)
    training, folder = _prepare(
        training_images,
        training_labels,
        settings,
        classes,
        inverted=inverted,
        progress=progress,
        batch_progress=batch_progress,
        checkpoints=checkpoints,
        checkpoint=checkpoint,
        stop_after=epochs,
    )
    with blas_threads(settings.blas_threads):
        history = training.fit()
    file = None if folder is None else folder.newest(at_most=epochs)
    if file is None:
        message = f"Checkpoints vanished from {checkpoints} while training; nothing to go on from."
        raise ValueError(message)
    return history, file


def _prepare(
    training_images: NDArray[np.uint8],
    training_labels: NDArray[np.integer[Any]],
    settings: TrainingSettings,
    classes: int,
    *,
    inverted: bool,
    progress: EpochListener | None,
    batch_progress: BatchListener | None,
    checkpoints: Path | None,
    checkpoint: Path | None,
    stop_after: int | None = None,
) -> tuple[Training, CheckpointFolder | None]:
    """Build a training that has not begun, and the folder of its checkpoints."""
    randomness = Randomness.from_seed(settings.seed)
    learnt_from, held_back = split(training_labels, settings, randomness)
    if settings.patience and not len(held_back):
        message = (
            f"patience needs a validation set, and {len(training_labels)} training images of "
            f"{len(np.unique(training_labels))} classes are too few to hold one back: set "
            "validation_size, or patience=0"
        )
        raise ValueError(message)
    height, width = training_images.shape[1:]
    shape = (1, height, width) if settings.convolution_channels else (height * width,)
    mean, deviation = 0.0, 1.0
    if settings.standardization:
        mean, deviation = mean_and_deviation(training_images, learnt_from, inverted=inverted)
    network = Network(
        assemble(settings, height, width, classes),
        shape,
        randomness=randomness,
        dtype=settings.dtype,
        inverted=inverted,
        mean=mean,
        deviation=deviation,
    )
    if len(held_back) > 0 and len(learnt_from) < network.smallest_batch:
        most = len(training_labels) - network.smallest_batch
        message = (
            f"validation_size: expected at most {most}, since batch normalisation needs "
            f"{network.smallest_batch} images to train on; found {len(held_back)} of "
            f"{len(training_labels)} held back"
        )
        raise ValueError(message)
    augment = Augment(
        randomness.augmentation,
        shift=settings.shift,
        rotation=settings.rotation,
        scale=settings.scale,
        elastic=settings.elastic,
    )
    plain, altered = network.feed(training_images), network.feed(training_images, augment)
    folder = None
    if checkpoints is not None:
        parameters = {**settings.model_dump(), "classes": classes, "inverted": inverted}
        identity = run_identity(parameters, training_images, training_labels)
        folder = CheckpointFolder(checkpoints, identity)
        if checkpoint is not None:
            folder.adopt(checkpoint)
    training = Training(
        network,
        make_loss(settings, classes),
        make_optimizer(settings),
        Examples(altered, training_labels, learnt_from),
        randomness,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        schedule=make_schedule(settings),
        validation=Examples(plain, training_labels, held_back) if len(held_back) else None,
        early_stopping=EarlyStopping(settings.patience) if settings.patience else None,
        gradient_clip_norm=settings.gradient_clip_norm or None,
        on_epoch=progress,
        on_batch=batch_progress,
        checkpoints=folder,
        stop_after=stop_after,
    )
    return training, folder
