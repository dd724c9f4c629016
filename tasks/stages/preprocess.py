"""Stage `preprocess`: decoded images and labels → what the network trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(
    outputs={
        "training_inputs": "npy",
        "training_targets": "npy",
        "test_inputs": "npy",
        "test_targets": "npy",
        "form": "json",
    }
)
def preprocess(
    training_images: NDArray[Any],
    training_labels: NDArray[Any],
    test_images: NDArray[Any],
    test_labels: NDArray[Any],
    *,
    training_sample: int,
    test_sample: int,
    labels: list[int],
) -> dict[str, Any]:
    """Take the first samples, number their classes, and fit the form of the images.

    Images stay bytes: a network scales them batch by batch while it trains. Labels become classes
    0, 1, … by their place in `labels`, the values that the dataset's labels take.
    """
    from digitflow.tasks.data.classes import class_ids
    from digitflow.tasks.data.pictures.form import fit_form
    from digitflow.tasks.data.preparation import check_images, take_first

    training = take_first("training", training_images, training_labels, training_sample)
    test = take_first("test", test_images, test_labels, test_sample)
    check_images(training[0], test[0])
    # All of them: figures show images that no network is trained on, under their names.
    training_classes = class_ids("training", training_labels, labels)[: len(training[0])]
    test_classes = class_ids("test", test_labels, labels)[: len(test[0])]
    return {
        "training_inputs": training[0],
        "training_targets": training_classes,
        "test_inputs": test[0],
        "test_targets": test_classes,
        "form": fit_form(training[0]).to_json(),
    }
