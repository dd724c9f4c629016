"""Stage `train`: prepared data → a trained network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.stage import Progress, stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    hidden_size: int,
    learning_rate: float,
    epochs: int,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train the network and test it after every epoch.

    The predictions are handed on beside the model, so that what judges them needs no network
    code and stays cached when that code changes without changing a byte.
    """
    import pandas as pd

    from tasks.nn.progress import EpochReport
    from tasks.nn.tutorial import train_tutorial

    def report(epoch: EpochReport) -> None:
        progress(
            epoch.epoch + 1,
            epoch.epochs,
            "epochs",
            train_loss=epoch.train_loss,
            train_accuracy=epoch.train_accuracy,
            test_loss=epoch.test_loss,
            test_accuracy=epoch.test_accuracy,
            images_per_second=epoch.images_per_second,
        )

    result = train_tutorial(
        training_inputs,
        training_targets,
        test_inputs,
        test_targets,
        hidden_size=hidden_size,
        learning_rate=learning_rate,
        epochs=epochs,
        seed=seed,
        progress=report,
        checkpoints=scratch,
    )
    return {
        "model": result.weights,
        "history": pd.DataFrame(result.history),
        "predictions": {"outputs": result.outputs, "losses": result.losses},
    }
