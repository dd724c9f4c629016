"""Stage `preprocess`: decoded images and labels → what the network trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.stage import stage

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
    classes: int,
    scaled: bool,
) -> dict[str, NDArray[Any]]:
    """Take the first samples; flatten, scale to 0…1 and encode the labels one-hot if `scaled`.

    What scales batch by batch while it trains takes the bytes as they are.
    """
    from tasks.data.encode import check_labels, flatten_and_scale, one_hot, take_first

    training = take_first("training", training_images, training_labels, training_sample)
    test = take_first("test", test_images, test_labels, test_sample)
    check_labels("training", training[1], classes)
    check_labels("test", test[1], classes)
    if not scaled:
        return {
            "training_inputs": training[0],
            "training_targets": training[1],
            "test_inputs": test[0],
            "test_targets": test[1],
        }
    return {
        "training_inputs": flatten_and_scale(training[0]),
        "training_targets": one_hot(training[1], classes),
        "test_inputs": flatten_and_scale(test[0]),
        "test_targets": one_hot(test[1], classes),
    }
