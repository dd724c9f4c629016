"""Stage `preprocess`: decoded images and labels → what the network trains on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.stage import stage

if TYPE_CHECKING:
    import numpy as np
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
) -> dict[str, NDArray[np.float64]]:
    """Take the first samples, flatten, scale to 0…1 and encode the labels one-hot."""
    from tasks.data.encode import flatten_and_scale, one_hot, take_first

    training = take_first("training", training_images, training_labels, training_sample)
    test = take_first("test", test_images, test_labels, test_sample)
    return {
        "training_inputs": flatten_and_scale(training[0]),
        "training_targets": one_hot("training", training[1], classes),
        "test_inputs": flatten_and_scale(test[0]),
        "test_targets": one_hot("test", test[1], classes),
    }
