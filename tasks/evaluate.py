"""Stage `evaluate`: predictions against labels → metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"metrics": "json", "confusion": "csv"})
def evaluate(
    predictions: Mapping[str, NDArray[Any]],
    test_targets: NDArray[Any],
    *,
    class_names: list[str],
) -> dict[str, Any]:
    """Accuracy, loss, confusion matrix and precision, recall and F1 of each class."""
    from tasks import metrics

    scores, confusion = metrics.evaluate(
        predictions["outputs"],
        predictions["losses"],
        test_targets if test_targets.ndim == 1 else test_targets.argmax(axis=1),
        class_names,
    )
    return {"metrics": scores, "confusion": confusion.reset_index()}
