"""Stage `evaluate`: predictions against labels → metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"metrics": "json", "confusion": "table", "confusion_csv": "text"})
def evaluate(
    predictions: Mapping[str, NDArray[Any]],
    tested: Mapping[str, NDArray[Any]],
    training_targets: NDArray[Any],
    test_targets: NDArray[Any],
    *,
    class_names: list[str],
) -> dict[str, Any]:
    """Accuracy, loss, confusion matrix and precision, recall and F1 of each class.

    Each class's row also says of how many training images it could be learnt. Where the model can
    tell how sure it may be, it is said how right that is.
    """
    import numpy as np

    from digitflow.tasks.nn.metrics import classification_metrics, confidence_metrics

    scores, confusion = classification_metrics(
        predictions["outputs"],
        predictions["losses"],
        test_targets,
        class_names,
    )
    trained_on = np.bincount(training_targets, minlength=len(class_names))
    for row, images in zip(scores["per_class"], trained_on, strict=True):
        row["training_images"] = int(images)
    if len(tested["confidence"]):
        right = predictions["outputs"].argmax(axis=1) == test_targets
        scores |= confidence_metrics(tested["confidence"], tested["unsure"], right)
    confusion = confusion.reset_index()
    # Class names such as 0 and 1 are texts in the table, which no CSV can say.
    text = confusion.to_csv(index=False, lineterminator="\n")
    return {"metrics": scores, "confusion": confusion, "confusion_csv": text}
