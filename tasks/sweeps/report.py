"""What a sweep found, put for people: a line, Markdown, a table; and JSON for ``run.json``.

Light: it opens no array and needs no Prefect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from digitflow.tasks.reporting.render import render
from digitflow.tasks.reporting.run_summary import RunSummary
from digitflow.tasks.sweeps.ranking import METRICS, Outcome, rows


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

    @property
    def effort(self) -> str:
        """How much was trained, such as ``63 of the 270 epochs of the grid``."""
        return f"{self.epochs:,} of the {self.all_epochs:,} epochs of the grid"


def sweep_headline(summary: SweepSummary) -> str:
    """Return a sweep in one line."""
    winner = summary.ranked[0]
    return f"{winner.point.label} is the best of {len(summary.ranked)} points"


def score_text(metric: str, score: float | None) -> str:
    """Return a score as people read it, such as ``97.12 %`` or ``0.0631``."""
    if score is None:
        return "–"
    return f"{score * 100:.2f} %" if metric.endswith("accuracy") else f"{score:.4f}"


def points_table(summary: SweepSummary) -> list[dict[str, Any]]:
    """Return the ranking as one row per point, numbers rounded for reading."""
    has_errors = any(outcome.error for outcome in summary.ranked)
    listed = []
    for row, outcome in zip(rows(summary.ranked), summary.ranked, strict=True):
        scores = {name: score_text(name, outcome.scores.get(name)) for name in METRICS}
        error = {"error": first_line(outcome)} if has_errors else {}
        listed.append(row | scores | {"rank": row["rank"] or "–"} | error)
    return listed


def first_line(outcome: Outcome) -> str:
    """Return why a point failed, in a line; nothing if it did not."""
    return (outcome.error or "").partition("\n")[0]


def sweep_markdown(summary: SweepSummary, figure: bytes) -> str:
    """Return the report: winner, picture, ranking, command.

    Parameters
    ----------
    summary
        The sweep.
    figure
        The points as parallel coordinates, a PNG.
    """
    return render(
        "sweep.md",
        run=summary.run,
        headline=sweep_headline(summary),
        metric=summary.metric.replace("_", " "),
        score=score_text(summary.metric, summary.ranked[0].scores[summary.metric]),
        command=summary.command,
        figure=figure,
        effort=summary.effort,
        points=points_table(summary),
    )
