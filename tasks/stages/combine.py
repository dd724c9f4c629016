"""Stage `combine`: the trained members of an ensemble → one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


@stage(outputs={"model": "npz", "history": "csv", "predictions": "npz"})
def combine(
    models: tuple[Mapping[str, NDArray[Any]], ...],
    histories: tuple[pd.DataFrame, ...],
    predictions: tuple[Mapping[str, NDArray[Any]], ...],
    test_targets: NDArray[Any],
    *,
    loss: str,
    label_smoothing: float,
) -> dict[str, Any]:
    """Make one model of several, whose probabilities are the mean of theirs.

    It hands on what `train` does, so that what follows need not know which of them it was. An
    epoch of the history is the mean over the members that trained so long.
    """
    import pandas as pd

    from digitflow.tasks.nn.inference.model_file import join_members
    from digitflow.tasks.nn.inference.predict import combine_outputs
    from digitflow.tasks.nn.losses import LOSSES

    outputs = combine_outputs([each["outputs"] for each in predictions], loss)
    measured = LOSSES[loss](outputs.shape[1], label_smoothing, outputs.dtype.name)
    by_epoch = pd.concat(histories).groupby("epoch", sort=True)
    return {
        "model": join_members(models, loss),
        "history": by_epoch.mean().reset_index(),
        "predictions": {"outputs": outputs, "losses": measured.forward(outputs, test_targets)},
    }
