"""What a training tells while it runs."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch.

    Attributes
    ----------
    epoch, epochs : int
        The epoch just finished, counted from 0, and how many there are at most.
    train_loss, train_accuracy : float
        Mean over the training images as they were seen, with dropout where there is any.
    test_loss, test_accuracy : float or None
        Mean over the images held back: the test set in the tutorial, the validation set in
        every other preset; None where nothing was held back.
    learning_rate : float
        In force in the last step of the epoch.
    seconds : float
        Wall time of the epoch, evaluation included.
    images_per_second : float
        Training images divided by `seconds`.
    """

    epoch: int
    epochs: int
    train_loss: float
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class BatchReport:
    """A sign of life inside an epoch: `batch` of `batches` are done."""

    epoch: int
    epochs: int
    batch: int
    batches: int


EpochListener = Callable[[EpochReport], None]
BatchListener = Callable[[BatchReport], None]
