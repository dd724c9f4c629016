"""Train a network as its settings say."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.architecture import to_arrays
from digitflow.tasks.nn.assembly import assemble, make_loss, make_optimizer, make_schedule
from digitflow.tasks.nn.augmentation import Augment
from digitflow.tasks.nn.blas import blas_threads
from digitflow.tasks.nn.checkpoints import CheckpointFolder, run_identity
from digitflow.tasks.nn.early_stopping import EarlyStopping
from digitflow.tasks.nn.evaluation import evaluate
from digitflow.tasks.nn.feed import Feed
from digitflow.tasks.nn.fit import Examples, History, Training
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.progress import BatchListener, EpochListener
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.result import TrainingResult
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.split import stratified_split


def train_network(
    training_images: NDArray[np.uint8],
    training_labels: NDArray[np.integer[Any]],
    test_images: NDArray[np.uint8],
    test_labels: NDArray[np.integer[Any]],
    *,
    settings: TrainingSettings,
    classes: int | None = None,
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
        Its weights hold the network whole: `tasks.nn.architecture.from_arrays` makes it again.

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
    _check("training", training_images, training_labels)
    _check("test", test_images, test_labels)
    if classes is None:
        classes = max(2, int(training_labels.max()) + 1)
    largest = max(training_labels.max(), test_labels.max())
    if largest >= classes:
        message = f"With {classes} classes, labels go up to {classes - 1}; found {largest}."
        raise ValueError(message)

    training, _ = _prepare(
        training_images,
        training_labels,
        settings,
        classes,
        progress=progress,
        batch_progress=batch_progress,
        checkpoints=checkpoints,
        checkpoint=checkpoint,
    )
    with blas_threads(settings.blas_threads):
        history = training.fit()
    network, loss = training.network, training.loss
    test = Feed(test_images, network.input_shape, network.dtype)
    rows = np.arange(len(test_images))
    # With one thread, like every later prediction.
    with blas_threads(1):
        outputs, losses = evaluate(network, test, test_labels, rows, loss)
    return TrainingResult(to_arrays(network), history, outputs, losses)


def train_partly(
    training_images: NDArray[np.uint8],
    training_labels: NDArray[np.integer[Any]],
    *,
    settings: TrainingSettings,
    classes: int,
    epochs: int,
    checkpoints: Path,
    checkpoint: Path | None = None,
    progress: EpochListener | None = None,
    batch_progress: BatchListener | None = None,
) -> tuple[History, Path]:
    """Begin the training of `train_network`, and stop after some of its epochs.

    Parameters
    ----------
    training_images, training_labels, settings, classes, progress, batch_progress
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
    _check("training", training_images, training_labels)
    training, folder = _prepare(
        training_images,
        training_labels,
        settings,
        classes,
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
    progress: EpochListener | None,
    batch_progress: BatchListener | None,
    checkpoints: Path | None,
    checkpoint: Path | None,
    stop_after: int | None = None,
) -> tuple[Training, CheckpointFolder | None]:
    """Build a training that has not begun, and the folder of its checkpoints."""
    randomness = Randomness.from_seed(settings.seed)
    present = len(np.unique(training_labels))
    learnt_from, held_back = stratified_split(
        training_labels, settings.held_back(len(training_labels), present), randomness.split
    )
    if settings.patience and not len(held_back):
        message = (
            f"patience needs a validation set, and {len(training_labels)} training images of "
            f"{present} classes are too few to hold one back: set validation_size, or patience=0"
        )
        raise ValueError(message)
    height, width = training_images.shape[1:]
    shape = (1, height, width) if settings.convolution_channels else (height * width,)
    network = Network(
        assemble(settings, height, width, classes),
        shape,
        randomness=randomness,
        dtype=settings.dtype,
    )
    augment = Augment(
        randomness.augmentation,
        shift=settings.shift,
        rotation=settings.rotation,
        scale=settings.scale,
        elastic=settings.elastic,
    )
    plain = Feed(training_images, shape, network.dtype)
    altered = Feed(training_images, shape, network.dtype, augment)
    folder = None
    if checkpoints is not None:
        parameters = {**settings.model_dump(), "classes": classes}
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


def _check(name: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
    if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != (len(images),):
        message = (
            f"The {name} images should be uint8 of shape (n, height, width) and the labels of "
            f"shape (n,); found {images.dtype} {images.shape} and {labels.shape}."
        )
        raise ValueError(message)
    if not len(images) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        message = (
            f"The {name} labels should be whole numbers from 0, at least one; found "
            f"{labels.dtype} {labels.shape}."
        )
        raise ValueError(message)
