"""Stop when the validation loss no longer falls, and give the best weights back."""

from dataclasses import dataclass, field
from math import inf
from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


@dataclass
class EarlyStopping:
    """Watches the validation loss epoch by epoch.

    Parameters
    ----------
    patience : int
        Epochs without a new best loss after which training stops.

    Attributes
    ----------
    best_loss : float
    best_epoch : int
        Counted from 0; -1 before the first epoch.
    best : dict[str, NDArray]
        Copy of the network's numbers after the best epoch.
    """

    patience: int
    best_loss: float = inf
    best_epoch: int = -1
    best: Arrays = field(default_factory=dict)

    def should_stop(self, epoch: int, loss: float, state: Arrays) -> bool:
        """Take note of `loss` after `epoch`; return True once patience has run out."""
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = {name: array.copy() for name, array in state.items()}
        return epoch - self.best_epoch >= self.patience
