"""Stage `calibrate`: a network and images that it did not learn from → how sure it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Images that are counted on: whether a dataset's show one thing each is told by as many.
_COUNTED = 1_000


@stage(outputs={"calibration": "npz", "tested": "npz"})
def calibrate(
    model: Mapping[str, NDArray[Any]],
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    test_inputs: NDArray[Any],
    form: dict[str, Any],
    *,
    training_sample: int,
    labels: list[int],
    validation_size: int | None,
    seeds: list[int],
) -> dict[str, Any]:
    """Fit the temperature of the probabilities, and when an image is unlike the training images.

    On training images that no member of the model learnt from: those beyond `training_sample`, or
    those that all of them held back, each by its seed. Of fewer than 100 nothing is fitted, and the
    model cannot tell. The test images are asked about afterwards, without their labels.
    """
    import numpy as np

    from digitflow.tasks.data.classes import class_ids
    from digitflow.tasks.data.pictures.count import count_things
    from digitflow.tasks.data.pictures.form import Form
    from digitflow.tasks.nn.inference.calibration import Calibration, fit_calibration, unlearnt
    from digitflow.tasks.nn.inference.predict import predict
    from digitflow.tasks.nn.settings import TrainingSettings

    settings = [TrainingSettings(validation_size=validation_size, seed=seed) for seed in seeds]
    classes = class_ids("training", training_labels, labels)
    learnt, held_out = unlearnt(classes, training_sample, settings)
    shown = Form.from_json(form)
    found = count_things(training_images[held_out[:_COUNTED]], shown)
    fitted = fit_calibration(model, training_images, classes, learnt, held_out, found)
    calibration = Calibration.from_arrays(fitted)
    if calibration is None:
        return {"calibration": fitted, "tested": {"confidence": np.zeros(0)}}
    counts = count_things(test_inputs, shown) if calibration.one_thing else None
    told = calibration.told(test_inputs, predict(model, test_inputs), counts)
    return {"calibration": fitted, "tested": told}
