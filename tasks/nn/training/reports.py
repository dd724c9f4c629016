"""What a training reports: while it runs, at its end, and where it ends before its time."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Literal

from numpy.typing import NDArray

History = dict[str, list[Any]]


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
    history: History
    outputs: NDArray[Any]
    losses: NDArray[Any]


class TrainingDivergedError(ArithmeticError):
    """The loss became NaN, infinite or absurdly large."""

    def __init__(
        self,
        *,
        epoch: int,
        batch: int,
        loss: float,
        gradient_norm: float,
        learning_rate: float,
        remedies: str = "a warm-up of one epoch, or gradient_clip_norm=1",
    ) -> None:
        self._given: dict[str, Any] = {
            "epoch": epoch,
            "batch": batch,
            "loss": loss,
            "gradient_norm": gradient_norm,
            "learning_rate": learning_rate,
            "remedies": remedies,
        }
        self.epoch, self.batch = epoch, batch
        self.loss, self.gradient_norm, self.learning_rate = loss, gradient_norm, learning_rate
        super().__init__(
            f"Training diverged in epoch {epoch}, batch {batch}: the loss is {loss:.6g} and the "
            f"gradient's norm {gradient_norm:.6g} at learning rate {learning_rate:.6g}. Try a "
            f"learning rate ten times smaller, {remedies}."
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # By default it would be made again from its message alone, in the process that hears of it.
        return partial(type(self), **self._given), ()


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C was pressed; training stopped after the batch it was in.

    A KeyboardInterrupt, so that nothing that catches ordinary errors takes it for one.
    """

    def __init__(self, *, epoch: int, batch: int, saved: bool) -> None:
        self.epoch, self.batch = epoch, batch
        advice = (
            "Run the same training again to go on from the end of the epoch before."
            if saved
            else "Nothing was saved: no epoch was finished, or no checkpoint folder given."
        )
        super().__init__(f"Stopped in epoch {epoch} after batch {batch}. {advice}")


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Catch SIGINT inside the block; the function it gives says whether one came.

    A second Ctrl-C interrupts at once, as usual. Only Python's main thread receives signals;
    in any other thread this does nothing, and the main thread's own handling applies.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return

    def take_note(number: int, frame: FrameType | None) -> None:
        came.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.getsignal(signal.SIGINT)
    if previous is None:
        # Installed by something that is not Python; it could not be put back.
        yield came.is_set
        return
    signal.signal(signal.SIGINT, take_note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
