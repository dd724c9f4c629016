"""What a training hands on: the weights, the history and the answers on the test set."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of one training; equal runs give equal bytes.

    Attributes
    ----------
    weights : dict[str, NDArray]
        What the model file holds. For the tutorial ``weights_1`` (784, hidden) and ``weights_2``
        (hidden, 10); for a network also its architecture, as JSON bytes (never a pickle).
    history : dict[str, list]
        Column to values, one value per epoch. Seconds and speeds are left out on purpose: they
        differ between two runs that computed the same thing.
    outputs : NDArray, shape (n_test, classes)
        Outputs of the final network for the test images.
    losses : NDArray, shape (n_test,)
        Loss of each test image under the final network.
    """

    weights: dict[str, NDArray[Any]]
    history: dict[str, list[Any]]
    outputs: NDArray[Any]
    losses: NDArray[Any]
