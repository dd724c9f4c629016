"""A run's report as one HTML file: pictures inside, no scripts, nothing fetched.

For those without the Prefect UI. It opens offline, in light and in dark, on a phone and on paper.
Light: it opens no array and needs no Prefect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from digitflow.tasks.parameters import ParameterError, resolve
from digitflow.tasks.reporting.cards import (
    Training,
    class_counts,
    datasheet,
    files,
    model_card,
)
from digitflow.tasks.reporting.render import render
from digitflow.tasks.reporting.report import FIGURES, per_class_table, run_headline, warnings
from digitflow.tasks.reporting.run_summary import RunSummary

# Hexadecimal digits that tell one digest from another.
_SHORT = 12
# Pixels from which on a phone scrolls a picture instead of squeezing it.
_WIDE = 620


@dataclass(frozen=True)
class ReportContents:
    """What a report shows beside the summary; what is empty is left out.

    Attributes
    ----------
    figures
        Bytes of each PNG, by its name in `FIGURES`.
    history
        One row per epoch.
    code
        Digest of each stage's code, by the stage's label.
    versions
        Of Python and packages.
    confusion
        Rows of the confusion matrix as CSV, its header first.
    training
        What is on record of the model's training.
    """

    figures: Mapping[str, bytes] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    code: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    confusion: Sequence[Sequence[str]] = ()
    training: Training | None = None


def page(summary: RunSummary, contents: ReportContents) -> str:
    """Return the whole report.

    Parameters
    ----------
    summary
        The run.
    contents
        Everything else that is shown.
    """
    changed, unchanged = _parameters(summary)
    return render(
        "report.html",
        headline=run_headline(summary),
        run=summary,
        metrics=summary.metrics,
        warnings=warnings(summary.metrics, summary.notices),
        figures=[
            {"name": name, "title": FIGURES[name], "png": png, "wide": _width(png) > _WIDE}
            for name, png in contents.figures.items()
            if name in FIGURES
        ],
        classes=per_class_table(summary.metrics) if summary.metrics else [],
        history=contents.history,
        stages=_stages(summary, contents.code),
        changed=changed,
        unchanged=unchanged,
        outputs=_outputs(summary),
        cards=_cards(summary, contents, {row["parameter"]: row["value"] for row in changed}),
        versions=[{"name": name, "version": each} for name, each in contents.versions.items()],
    )


def _cards(
    summary: RunSummary, contents: ReportContents, changed: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the model card, where a model was trained, and the datasheet, where it is known."""
    dataset = summary.source
    if dataset is None:
        return {}
    trained = summary.output("train", "model") is not None
    return {
        "model": model_card(summary, dataset, contents.confusion, contents.training, changed)
        if trained
        else [],
        "data": datasheet(summary, dataset),
        "classes": class_counts(dataset, summary.metrics) if summary.metrics else [],
        "files": files(summary, dataset),
    }


def _width(png: bytes) -> int:
    """Return the pixels in a row, from the header: PNG specification, 11.2.2."""
    return int.from_bytes(png[16:20])


def _stages(summary: RunSummary, code: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage.label,
            "outcome": "cached" if stage.cached else "ran",
            "seconds": f"{stage.seconds:.2f}",
            "why it ran": "\n".join(stage.reasons),
            "code": code.get(stage.label, "")[:_SHORT],
            "key": stage.key[:_SHORT],
        }
        for stage in summary.stages
    ]


def _parameters(summary: RunSummary) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row for each parameter that differs from the preset, and for each that does not."""
    try:
        usual = resolve(summary.preset, {}).model_dump(mode="json")
    except ParameterError:  # a preset of an earlier version
        usual = dict(summary.parameters)
    changed, unchanged = [], []
    for name, value in summary.parameters.items():
        if value == usual.get(name):
            unchanged.append({"parameter": name, "value": value})
        else:
            before = {f"in {summary.preset}": usual.get(name)}
            changed.append({"parameter": name, "value": value, **before})
    return changed, unchanged


def _outputs(summary: RunSummary) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage.label if number == 0 else "",
            "output": name,
            "bytes": f"{artifact.size:,}",
            "SHA-256": artifact.sha256,
        }
        for stage in summary.stages
        for number, (name, artifact) in enumerate(stage.outputs.items())
    ]
