"""Stage `train`: prepared data → a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.stage import Progress, stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.nn.progress import EpochReport
    from tasks.nn.result import TrainingResult


@stage(
    outputs={"model": "npz", "history": "csv", "predictions": "npz"},
    shows_progress=True,
)
def train(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    test_inputs: NDArray[Any],
    test_targets: NDArray[Any],
    *,
    network: str,
    settings: dict[str, Any],
    classes: int,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the network, and try it on the test set.

    The predictions are handed on beside the model, so that what judges them needs no network
    code and stays cached when that code changes without changing a byte.
    """
    import pandas as pd

    data = (training_inputs, training_targets, test_inputs, test_targets)
    if network == "tutorial":
        result = _train_tutorial(*data, settings, scratch, progress)
    else:
        result = _train_layers(*data, settings, classes, scratch, progress)
    return {
        "model": result.weights,
        "history": pd.DataFrame(result.history),
        "predictions": {"outputs": result.outputs, "losses": result.losses},
    }


def _train_tutorial(
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    test_images: NDArray[Any],
    test_labels: NDArray[Any],
    settings: dict[str, Any],
    scratch: Path,
    progress: Progress,
) -> TrainingResult:
    from tasks.nn.tutorial import train_tutorial

    (hidden_size,) = settings["hidden_sizes"]
    return train_tutorial(
        training_images,
        training_labels,
        test_images,
        test_labels,
        hidden_size=hidden_size,
        learning_rate=settings["learning_rate"],
        epochs=settings["epochs"],
        seed=settings["seed"],
        progress=lambda epoch: _report(epoch, progress),
        checkpoints=scratch,
    )


def _train_layers(
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    test_images: NDArray[Any],
    test_labels: NDArray[Any],
    settings: dict[str, Any],
    classes: int,
    scratch: Path,
    progress: Progress,
) -> TrainingResult:
    from tasks.nn.progress import BatchReport
    from tasks.nn.settings import TrainingSettings
    from tasks.nn.train import train_network

    def report_batch(batch: BatchReport) -> None:
        progress(batch.epoch + batch.batch / batch.batches, batch.epochs, "epochs")

    return train_network(
        training_images,
        training_labels,
        test_images,
        test_labels,
        settings=TrainingSettings.model_validate(settings),
        classes=classes,
        progress=lambda epoch: _report(epoch, progress),
        batch_progress=report_batch,
        checkpoints=scratch,
    )


def _report(epoch: EpochReport, progress: Progress) -> None:
    numbers = {
        "train_loss": epoch.train_loss,
        "train_accuracy": epoch.train_accuracy,
        "test_loss": epoch.test_loss,
        "test_accuracy": epoch.test_accuracy,
        "learning_rate": epoch.learning_rate,
        "seconds": epoch.seconds,
        "images_per_second": epoch.images_per_second,
    }
    known = {name: value for name, value in numbers.items() if value is not None}
    progress(epoch.epoch + 1, epoch.epochs, "epochs", **known)
