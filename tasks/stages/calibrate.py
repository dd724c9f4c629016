"""Stage `calibrate`: a trained network and images that it did not learn from → what it can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Images that are counted on: whether a dataset's show one thing each is told by as many.
_COUNTED = 1_000


@stage(outputs={"calibration": "npz"})
def calibrate(
    model: Mapping[str, NDArray[Any]],
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    form: dict[str, Any],
    *,
    training_sample: int,
    labels: list[int],
    validation_size: int | None,
    seeds: list[int],
) -> dict[str, Any]:
    """Fit the temperature of the probabilities, and when an image is unlike the training images.

    On training images that no member of the model learnt from: those beyond `training_sample`, or
    those that all of them held back, each by its seed. The test set is not looked at. Of fewer
    than 100 nothing is fitted, and the model cannot tell.
    """
    from digitflow.tasks.data.classes import class_ids
    from digitflow.tasks.data.pictures.count import count_things
    from digitflow.tasks.data.pictures.form import Form
    from digitflow.tasks.nn.inference.calibration import fit_calibration, unlearnt
    from digitflow.tasks.nn.settings import TrainingSettings

    settings = [TrainingSettings(validation_size=validation_size, seed=seed) for seed in seeds]
    classes = class_ids("training", training_labels, labels)
    learnt, held_out = unlearnt(classes, training_sample, settings)
    found = count_things(training_images[held_out[:_COUNTED]], Form.from_json(form))
    fitted = fit_calibration(model, training_images, classes, learnt, held_out, found)
    return {"calibration": fitted}
