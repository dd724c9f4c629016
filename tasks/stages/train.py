"""Stage `train`: prepared data → a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import Progress, stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from digitflow.tasks.nn.training.reports import BatchReport, EpochReport, TrainingResult


@stage(
    outputs={"model": "npz", "history": "csv", "predictions": "npz"},
    ignored=("checkpoint",),
    shows_progress=True,
)
def train(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    test_inputs: NDArray[Any],
    test_targets: NDArray[Any],
    form: dict[str, Any],
    checkpoint: Path | None = None,
    *,
    network: str,
    settings: dict[str, Any],
    classes: int,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the network, and try it on the test set.

    The predictions are handed on beside the model, so that what judges them needs no network
    code and stays cached when that code changes without changing a byte. A checkpoint of the same
    training, which a rung made, saves the time until there and changes nothing else. Images whose
    form is dark on light are trained on as if they were light on dark, but for the tutorial's
    network.
    """
    import pandas as pd

    data = (training_inputs, training_targets, test_inputs, test_targets)
    if network == "tutorial":
        result = _train_tutorial(*data, settings, classes, scratch, progress)
    else:
        result = _train_layers(*data, form, settings, classes, checkpoint, scratch, progress)
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
    classes: int,
    scratch: Path,
    progress: Progress,
) -> TrainingResult:
    from digitflow.tasks.nn.tutorial import train_tutorial

    (hidden_size,) = settings["hidden_sizes"]
    return train_tutorial(
        training_images,
        training_labels,
        test_images,
        test_labels,
        classes=classes,
        hidden_size=hidden_size,
        learning_rate=settings["learning_rate"],
        epochs=settings["epochs"],
        seed=settings["seed"],
        relu_derivative=settings["relu_derivative"],
        progress=lambda epoch: report_epoch(epoch, progress),
        checkpoints=scratch,
    )


def _train_layers(
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    test_images: NDArray[Any],
    test_labels: NDArray[Any],
    form: dict[str, Any],
    settings: dict[str, Any],
    classes: int,
    checkpoint: Path | None,
    scratch: Path,
    progress: Progress,
) -> TrainingResult:
    from digitflow.tasks.data.pictures.form import Form
    from digitflow.tasks.nn.settings import TrainingSettings
    from digitflow.tasks.nn.training.train import train_network

    return train_network(
        training_images,
        training_labels,
        test_images,
        test_labels,
        settings=TrainingSettings.model_validate(settings),
        classes=classes,
        inverted=Form.from_json(form).is_dark_on_light,
        progress=lambda epoch: report_epoch(epoch, progress),
        batch_progress=lambda batch: report_batch(batch, progress),
        checkpoints=scratch,
        checkpoint=checkpoint,
    )


def report_batch(batch: BatchReport, progress: Progress) -> None:
    """Report a batch: a sign of life inside an epoch."""
    progress(batch.epoch + batch.batch / batch.batches, batch.epochs, "epochs")


def report_epoch(epoch: EpochReport, progress: Progress) -> None:
    """Report an epoch with its numbers."""
    progress(epoch.epoch + 1, epoch.epochs, "epochs", **epoch.numbers())
