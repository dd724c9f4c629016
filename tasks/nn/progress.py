"""What a training tells while it runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch.

    Attributes
    ----------
    epoch, epochs : int
        The epoch just finished, counted from 0, and how many there are at most.
    train_loss, train_accuracy : float
        Mean over the training images as they were seen, with dropout where there is any.
    held_out : {"test", "validation"} or None
        The set that was not learnt from: the tutorial tests after every epoch, everything else
        validates; None where nothing was held out.
    held_out_loss, held_out_accuracy : float
        Mean over that set; NaN where there is none.
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
    held_out: Literal["test", "validation"] | None
    held_out_loss: float
    held_out_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float

    def numbers(self) -> dict[str, float]:
        """Return what was measured, by names that say of which set."""
        held_out = {}
        if self.held_out is not None:
            held_out = {
                f"{self.held_out}_loss": self.held_out_loss,
                f"{self.held_out}_accuracy": self.held_out_accuracy,
            }
        return {
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            **held_out,
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
        }


@dataclass(frozen=True)
class BatchReport:
    """A sign of life inside an epoch: `batch` of `batches` are done."""

    epoch: int
    epochs: int
    batch: int
    batches: int


EpochListener = Callable[[EpochReport], None]
BatchListener = Callable[[BatchReport], None]
