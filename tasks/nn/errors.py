"""How a training can end before its time."""

from functools import partial
from typing import Any


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
