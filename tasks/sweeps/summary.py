"""What a sweep found: what its reports are made of."""

from __future__ import annotations

from dataclasses import dataclass

from digitflow.tasks.reporting.run_summary import RunSummary
from digitflow.tasks.sweeps.ranking import Outcome


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep found.

    Attributes
    ----------
    run
        The winner's run: its stages, metrics, results.
    names
        Of the swept parameters.
    metric
        That the points are ranked by.
    ranked
        The points, best first and failed ones last.
    command
        Trains the winner on all the data.
    epochs, all_epochs
        That were trained for this ranking, and that the whole grid has.
    """

    run: RunSummary
    names: tuple[str, ...]
    metric: str
    ranked: tuple[Outcome, ...]
    command: str
    epochs: int
    all_epochs: int
