"""A run's report as Markdown and as tables. Light: it opens no array and needs no Prefect."""

from __future__ import annotations

import base64
import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digitflow.tasks.reporting.run_summary import RunSummary

FIGURES: Mapping[str, str] = {
    "learning_curves": "Learning curves",
    "confusion_matrix": "Confusion matrix",
    "mistakes": "The test images it got most wrong",
    "filters": "What the first layer looks at",
    "gallery": "Training images, drawn at random",
    "training_image": "The last training image",
}

_LISTED = 8  # class names in a sentence


def headline(summary: RunSummary) -> str:
    """Return the run in one line, such as ``MNIST · tutorial · test accuracy 78.4 %``."""
    parts = [summary.dataset, summary.preset]
    if summary.metrics:
        parts.append(f"test accuracy {summary.metrics['test_accuracy'] * 100:.1f} %")
    return " · ".join(parts)


def card(title: str, summary: RunSummary) -> str:
    """Return an artifact's description, such as ``Learning curves · 78.4 % · MNIST · tutorial``.

    The UI cuts it off after some 45 characters, so what tells runs apart comes early.
    """
    accuracy = [f"{summary.metrics['test_accuracy'] * 100:.1f} %"] if summary.metrics else []
    return " · ".join([title, *accuracy, summary.dataset, summary.preset])


def embedded(png: Path, title: str, width: int = 900) -> str:
    """Return a picture as an HTML tag that carries its own bytes.

    The Prefect UI shows such a picture inside Markdown; a path or a bare data URI it does not.
    """
    return embedded_bytes(png.read_bytes(), title, width)


def embedded_bytes(png: bytes, title: str, width: int = 900) -> str:
    """Return a picture as `embedded` does, given its bytes."""
    data = base64.b64encode(png).decode()
    return f'<img width="{width}" alt="{title}" src="data:image/png;base64,{data}">'


def markdown(summary: RunSummary, figures: Mapping[str, Path]) -> str:
    """Return the report: result, pictures, stages, parameters.

    Parameters
    ----------
    summary
        The run.
    figures
        Path of each figure that is to be inside the report.
    """
    lines = [f"# {headline(summary)}", ""]
    if summary.metrics:
        lines += [
            "| measure | value |",
            "|---|---|",
            f"| Test accuracy | **{summary.metrics['test_accuracy']:.4f}** |",
            f"| Test loss | {summary.metrics['test_loss']:.4f} |",
            f"| Errors | {summary.metrics['errors']} of {summary.metrics['test_samples']} |",
            f"| Macro F1 | {summary.metrics['macro_f1']:.4f} |",
            "",
        ]
    for warning in warnings(summary.metrics):
        lines += [f"> **Warning:** {cell(warning)}", ""]
    for name, path in figures.items():
        lines += [f"## {FIGURES[name]}", "", embedded(path, FIGURES[name]), ""]
    lines += ["## Stages", "", "| stage | outcome | seconds | why it ran |", "|---|---|---:|---|"]
    lines += [
        f"| {stage.label} | {'cached' if stage.cached else 'ran'} | {stage.seconds:.2f} | "
        f"{cell('; '.join(stage.reasons))} |"
        for stage in summary.stages
    ]
    lines += ["", "## Parameters", "", "| parameter | value |", "|---|---|"]
    lines += [f"| {name} | {cell(str(value))} |" for name, value in summary.parameters.items()]
    lines += ["", f"Results: `{summary.folder}`, with all of this in `report.html`.", ""]
    return "\n".join(lines)


def warnings(metrics: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the metrics should know of the data, a sentence each."""
    unlearnt = {
        row["class"]: row["support"]
        for row in metrics.get("per_class", [])
        if row["support"] and not row["training_images"]
    }
    if not unlearnt:
        return []
    names = ", ".join(list(unlearnt)[:_LISTED])
    more = f" and {len(unlearnt) - _LISTED} more" if len(unlearnt) > _LISTED else ""
    classes = "class has" if len(unlearnt) == 1 else "classes have"
    images = sum(unlearnt.values())
    return [
        f"{len(unlearnt)} {classes} test images but no training images: {names}{more}. "
        f"{images:,} of {metrics['test_samples']:,} test images can hardly be classified rightly."
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


def cell(text: str) -> str:
    """Return text as a cell of a Markdown table can bear it."""
    return text.replace("|", "\\|").replace("\n", " ")
