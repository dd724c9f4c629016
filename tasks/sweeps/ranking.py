"""What the points of a sweep reached, best first. Judged on validation images only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from digitflow.tasks.sweeps.grid import Point, shown

if TYPE_CHECKING:
    import pandas as pd

Metric = Literal["validation_accuracy", "validation_loss"]
METRICS: tuple[Metric, ...] = get_args(Metric)
_OTHER = {
    "validation_accuracy": "validation_loss",
    "validation_loss": "validation_accuracy",
}


@dataclass(frozen=True)
class Outcome:
    """How the training of a point ended.

    Attributes
    ----------
    point
        The point.
    scores
        `validation_accuracy`, `validation_loss`, `train_accuracy` and `train_loss` of the weights
        that were kept; empty if it failed.
    epochs
        How long it was trained.
    status
        ``ran``, ``cached``, ``stopped`` early or ``failed``.
    error
        Why it failed.
    key
        Of its training in the cache.
    seconds
        That it took; 0 if it was cached.
    """

    point: Point
    scores: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 0
    status: str = "failed"
    error: str | None = None
    key: str | None = None
    seconds: float = 0.0


def scores_of(history: pd.DataFrame, patience: int) -> dict[str, float]:
    """Return what the kept weights reached: the last epoch's, or with early stopping the best's.

    Parameters
    ----------
    history
        Of a training, a row an epoch.
    patience
        The setting; above 0, the weights of the least validation loss were put back.
    """
    losses = history["validation_loss"].to_numpy()
    row = int(losses.argmin()) if patience else len(losses) - 1
    names = (*METRICS, "train_accuracy", "train_loss")
    return {name: float(history[name].to_numpy()[row]) for name in names}


def rank(outcomes: Sequence[Outcome], metric: str) -> list[Outcome]:
    """Return the outcomes, best first, and those that failed last.

    Where two are equal in the metric, the other one decides, and then their order in the grid.
    """

    def better(outcome: Outcome) -> tuple[float, ...]:
        if not outcome.scores:
            return (2, 0, 0)
        # What was stopped early was worse when it was, and has seen fewer epochs.
        late = float(outcome.status == "stopped")
        return (late, *(_signed(outcome, name) for name in (metric, _OTHER[metric])))

    return sorted(outcomes, key=better)


def _signed(outcome: Outcome, name: str) -> float:
    value = outcome.scores[name]
    return -value if name == "validation_accuracy" else value


def rows(ranked: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return the ranking as one JSON object per point, for tables and files."""
    listed = []
    for place, outcome in enumerate(ranked, 1):
        row: dict[str, Any] = {"rank": place if outcome.scores else None}
        row |= {name: shown(value) for name, value in outcome.point.values.items()}
        row |= {name: outcome.scores.get(name) for name in METRICS}
        row |= {"epochs": outcome.epochs, "status": outcome.status}
        listed.append(row)
    return listed
