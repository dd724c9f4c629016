"""A run's report as Markdown and as tables. Light: it opens no array and needs no Prefect."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from digitflow.tasks.reporting.render import render
from digitflow.tasks.reporting.run_summary import RunSummary

FIGURES: Mapping[str, str] = {
    "learning_curves": "Learning curves",
    "confusion_matrix": "Confusion matrix",
    "mistakes": "Worst mistakes on the test set",
    "filters": "First-layer filters",
    "gallery": "Random training images",
    "training_image": "Last training image",
}

_LISTED = 8  # class names in a sentence


def run_headline(summary: RunSummary) -> str:
    """Return the run in one line, such as ``MNIST · tutorial · test accuracy 78.4 %``."""
    parts = [summary.dataset, summary.preset]
    if summary.metrics:
        parts.append(f"test accuracy {summary.metrics['test_accuracy'] * 100:.1f} %")
    return " · ".join(parts)


def run_card(title: str, summary: RunSummary) -> str:
    """Return an artifact's description, such as ``Learning curves · 78.4 % · MNIST · tutorial``.

    The UI cuts it off after some 45 characters, so what tells runs apart comes early.
    """
    accuracy = [f"{summary.metrics['test_accuracy'] * 100:.1f} %"] if summary.metrics else []
    return " · ".join([title, *accuracy, summary.dataset, summary.preset])


def run_markdown(summary: RunSummary, figures: Mapping[str, Path]) -> str:
    """Return the report: result, pictures, stages, parameters.

    Parameters
    ----------
    summary
        The run.
    figures
        Path of each figure that is to be inside the report.
    """
    return render(
        "report.md",
        headline=run_headline(summary),
        run=summary,
        metrics=summary.metrics,
        warnings=warnings(summary.metrics, summary.notices),
        figures=[(FIGURES[name], path.read_bytes()) for name, path in figures.items()],
    )


def warnings(metrics: Mapping[str, Any], notices: Sequence[str] = ()) -> list[str]:
    """Return what whoever reads of a run should know, one string per warning.

    Parameters
    ----------
    metrics
        What evaluation found.
    notices
        What people have said of the named model.
    """
    return [*_untrained(metrics), *_no_better_than_the_majority(metrics), *notices]


def _untrained(metrics: Mapping[str, Any]) -> list[str]:
    untrained = {
        row["class"]: row["support"]
        for row in metrics.get("per_class", [])
        if row["support"] and not row["training_images"]
    }
    if not untrained:
        return []
    names = ", ".join(list(untrained)[:_LISTED])
    more = f" and {len(untrained) - _LISTED} more" if len(untrained) > _LISTED else ""
    classes = "class has" if len(untrained) == 1 else "classes have"
    images = sum(untrained.values())
    return [
        f"{len(untrained)} {classes} test images but no training images: {names}{more}. "
        f"{images:,} of {metrics['test_samples']:,} test images are unlikely to be classified "
        "correctly."
    ]


def _no_better_than_the_majority(metrics: Mapping[str, Any]) -> list[str]:
    """Warn of a network that has learnt nothing: naming one class each time does as well."""
    largest = max(metrics.get("per_class", []), key=lambda row: int(row["support"]), default=None)
    if largest is None or not metrics["test_samples"]:
        return []
    share = largest["support"] / metrics["test_samples"]
    if metrics["test_accuracy"] > share or share == 1:
        return []
    return [
        f"The network has learnt nothing that counts: its test accuracy of "
        f"{metrics['test_accuracy'] * 100:.1f} % is no more than the share of {largest['class']}, "
        f"the largest class ({share * 100:.1f} %)."
    ]


def history_table(history: Path) -> list[dict[str, Any]]:
    """Return the history as one row per epoch, numbers rounded for reading."""
    with history.open(newline="", encoding="utf-8") as file:
        return [
            {name: _rounded(text) for name, text in row.items()} for row in csv.DictReader(file)
        ]


def per_class_table(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return precision, recall and F1 as one row per class."""
    return [
        {
            "class": row["class"],
            "precision": round(row["precision"], 4),
            "recall": round(row["recall"], 4),
            "f1": round(row["f1"], 4),
            "images": row["support"],
            "training images": row["training_images"],
        }
        for row in metrics["per_class"]
    ]


def _rounded(text: str) -> int | float | str:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return round(float(text), 4)
    except ValueError:
        return text
