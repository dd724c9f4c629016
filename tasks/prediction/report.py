"""What was predicted for a batch as people read it in the UI: Markdown and a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from digitflow.storage.models import ModelVersion
from digitflow.tasks.prediction.predictions import Prediction
from digitflow.tasks.reporting.report import cell

_MOST_NAMED = 20  # files that could not be read


def card(title: str, model: ModelVersion, predictions: Sequence[Prediction]) -> str:
    """Return an artifact's description, such as ``Predictions · 300 pictures · model 3``."""
    return f"{title} · {_count(len(predictions), 'picture')} · model {model.version}"


def class_table(model: ModelVersion, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Return how often each class was predicted, and how surely, as one row a class."""
    seen = sum(each.label is not None for each in predictions)
    rows = []
    for name in model.class_names:
        found = [each.probability for each in predictions if each.label == name]
        rows.append(
            {
                "class": name,
                "pictures": len(found),
                "share": round(len(found) / seen, 4) if seen else 0.0,
                "mean probability": round(sum(found) / len(found), 4) if found else None,
            }
        )
    return rows


def markdown(
    model: ModelVersion,
    source: Path,
    predictions: Sequence[Prediction],
    unreadable: Sequence[tuple[str, str]],
    sheet: str | None,
    folder: Path,
) -> str:
    """Return the report.

    Parameters
    ----------
    model
        What predicted.
    source
        Where the pictures came from.
    predictions
        What was predicted.
    unreadable
        Name of each file that could not be read, and why.
    sheet
        The contact sheet as an HTML tag, or None if there is nothing on it.
    folder
        Where the results are.
    """
    seen = [each for each in predictions if each.label is not None]
    confidence = f"{sum(each.probability for each in seen) / len(seen):.3f}" if seen else "–"
    lines = [
        f"# {_count(len(predictions), 'picture')}, seen by model {model.version}",
        "",
        "| measure | value |",
        "|---|---|",
        f"| Pictures from | `{source}` |",
        f"| Model | version {model.version}, {model.preset} on {model.dataset} |",
        f"| Mean probability of the predicted class | {confidence} |",
        f"| Blank | {len(predictions) - len(seen)} |",
        f"| Unreadable | {len(unreadable)} |",
        "",
    ]
    if sheet is not None:
        lines += ["## Contact sheet", "", "Framed: less probable than 80 %.", "", sheet, ""]
    if unreadable:
        lines += ["## Unreadable", "", "| file | problem |", "|---|---|"]
        lines += [f"| {cell(name)} | {cell(why)} |" for name, why in unreadable[:_MOST_NAMED]]
        if len(unreadable) > _MOST_NAMED:
            lines.append(f"| … | {len(unreadable) - _MOST_NAMED} more in predictions.csv |")
        lines.append("")
    return "\n".join([*lines, f"Results: `{folder}`", ""])


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
