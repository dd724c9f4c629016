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
    scaled: bool,
) -> dict[str, NDArray[Any]]:
    """Take the first samples; flatten, scale to 0…1 and encode the classes one-hot if `scaled`.

    What scales batch by batch while it trains takes the bytes as they are. Labels become classes
    0, 1, … by their place in `labels`, the values that the dataset's labels take.
    """
    from digitflow.tasks.data.datasets.labels import class_ids
    from digitflow.tasks.data.encode import check_images, flatten_and_scale, one_hot, take_first

    training = take_first("training", training_images, training_labels, training_sample)
    test = take_first("test", test_images, test_labels, test_sample)
    check_images(training[0], test[0])
    # All of them: figures show images that no network is trained on, under their names.
    training_classes = class_ids("training", training_labels, labels)[: len(training[0])]
    test_classes = class_ids("test", test_labels, labels)[: len(test[0])]
    if not scaled:
        return {
            "training_inputs": training[0],
            "training_targets": training_classes,
            "test_inputs": test[0],
            "test_targets": test_classes,
        }
    return {
        "training_inputs": flatten_and_scale(training[0]),
        "training_targets": one_hot(training_classes, len(labels)),
        "test_inputs": flatten_and_scale(test[0]),
        "test_targets": one_hot(test_classes, len(labels)),
    }
