"""Stage `rung`: the first epochs of a training, and the checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import Progress, stage
from digitflow.tasks.stages.train import report_batch, report_epoch

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(
    outputs={"history": "csv", "checkpoint": "file"},
    ignored=("checkpoint",),
    shows_progress=True,
)
def rung(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    form: dict[str, Any],
    checkpoint: Path | None = None,
    *,
    settings: dict[str, Any],
    classes: int,
    until: int,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Train a network for its first epochs, as far as it is needed to compare it with others.

    The checkpoint of an earlier rung saves the epochs until there and changes nothing else. That
    of the last rung does the same for `train`. The test set is not looked at.
    """
    import pandas as pd

    from digitflow.tasks.data.pictures.form import Form
    from digitflow.tasks.nn.settings import TrainingSettings
    from digitflow.tasks.nn.training.train import train_partly

    history, last = train_partly(
        training_inputs,
        training_targets,
        settings=TrainingSettings.model_validate(settings),
        classes=classes,
        inverted=Form.from_json(form).is_dark_on_light,
        epochs=until,
        checkpoints=scratch / "checkpoints",
        checkpoint=checkpoint,
        progress=lambda epoch: report_epoch(epoch, progress),
        batch_progress=lambda batch: report_batch(batch, progress),
    )
    return {"history": pd.DataFrame(history), "checkpoint": last}
