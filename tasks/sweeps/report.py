"""A sweep's report as Markdown and as a table. Light: it opens no array and needs no Prefect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from digitflow.tasks.reporting.report import cell, embedded
from digitflow.tasks.sweeps.ranking import METRICS, Outcome, rows
from digitflow.tasks.sweeps.summary import SweepSummary


def headline(summary: SweepSummary) -> str:
    """Return a sweep in one line."""
    winner = summary.ranked[0]
    return f"{winner.point.label} is the best of {len(summary.ranked)} points"


def score_text(metric: str, score: float | None) -> str:
    """Return a score as people read it, such as ``97.12 %`` or ``0.0631``."""
    if score is None:
        return "–"
    return f"{score * 100:.2f} %" if metric.endswith("accuracy") else f"{score:.4f}"


def effort(summary: SweepSummary) -> str:
    """Return how much was trained, such as ``63 of the 270 epochs of the grid``."""
    return f"{summary.epochs:,} of the {summary.all_epochs:,} epochs of the grid"


def table(summary: SweepSummary) -> list[dict[str, Any]]:
    """Return the ranking as one row a point, numbers rounded for reading."""
    listed = []
    for row, outcome in zip(rows(summary.ranked), summary.ranked, strict=True):
        scores = {name: score_text(name, outcome.scores.get(name)) for name in METRICS}
        shown = row | scores | {"rank": row["rank"] or "–", "error": first_line(outcome)}
        if not any(each.error for each in summary.ranked):
            del shown["error"]
        listed.append(shown)
    return listed


def first_line(outcome: Outcome) -> str:
    """Return why a point failed, in a line; nothing if it did not."""
    return (outcome.error or "").partition("\n")[0]


def markdown(summary: SweepSummary, figure: Path) -> str:
    """Return the report: winner, picture, ranking, command.

    Parameters
    ----------
    summary
        The sweep.
    figure
        The points as parallel coordinates, a PNG file.
    """
    run, winner = summary.run, summary.ranked[0]
    lines = [
        f"# {run.dataset} · {run.preset} · {headline(summary)}",
        "",
        f"It reached {_named(summary.metric)} "
        f"**{score_text(summary.metric, winner.scores[summary.metric])}**. Points were chosen by "
        "the validation set only; the winner was then tested once: test accuracy "
        f"**{run.metrics['test_accuracy'] * 100:.2f} %** of {run.metrics['test_samples']:,} "
        "images.",
        "",
        "This trains it on all the data, with none held back for validation:",
        "",
        f"```\n{summary.command}\n```",
        "",
        embedded(figure, "The points of the sweep"),
        "",
        f"Trained: {effort(summary)}.",
        "",
    ]
    listed = table(summary)
    lines += [f"| {' | '.join(map(_named, listed[0]))} |", f"|{'---|' * len(listed[0])}"]
    lines += [f"| {' | '.join(cell(str(value)) for value in row.values())} |" for row in listed]
    lines += ["", f"Results: `{run.folder}`", ""]
    return "\n".join(lines)


def _named(name: str) -> str:
    return name.replace("_", " ")
