"""A report on drift as people read it: one line, Markdown, a picture; and as JSON for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from digitflow.tasks.monitoring.drift import DRIFTED, WATCH, Drift, Seen
from digitflow.tasks.monitoring.report import DriftReport

_MEANINGS = {
    "stable": "the pictures are like those of the test set",
    "watch": "the pictures have begun to differ from those of the test set",
    "drifted": "the pictures are others than those of the test set",
    "too few": "too few pictures to tell",
}


def headline(report: DriftReport | None) -> str:
    """Return the report in one line."""
    if report is None:
        return "Drift: nothing to go by, no predictions are recorded"
    newest, drift = report.batches[-1]
    over = f" and {report.drift.psi:.3f} over the last {len(report.batches)}"
    both = len(report.batches) > 1
    return (
        f"Drift: {_MEANINGS[report.state]}; PSI {drift.psi:.3f} in the newest batch"
        f"{over if both else ''}, mean confidence {newest.confidence:.3f}"
        f"{f' and {report.now.confidence:.3f}' if both else ''}, "
        f"on the test set {report.then.confidence:.3f}"
    )


def shares(seen: Seen) -> list[float]:
    """Return the share of each class."""
    return [count / seen.images for count in seen.counts]


def by_class(report: DriftReport) -> Iterator[tuple[str, float, float, float]]:
    """Yield each class: its name, its share on the test set and now, its part of the index."""
    return zip(
        report.model.class_names,
        shares(report.then),
        shares(report.now),
        report.drift.terms,
        strict=True,
    )


def draw(report: DriftReport, dpi: int = 110) -> bytes:
    """Return the report's picture as PNG bytes."""
    from digitflow.tasks.figures.drift import draw_drift

    return draw_drift(
        report.model.class_names,
        shares(report.then),
        shares(report.now),
        [drift.psi for _, drift in report.batches],
        [batch.confidence for batch, _ in report.batches],
        confidence_then=report.then.confidence,
        thresholds=(WATCH, DRIFTED),
        title=f"model {report.model.version}",
        dpi=dpi,
    )


def markdown(report: DriftReport, picture: str) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    report
        What was found.
    picture
        The picture as an HTML tag.
    """
    lines = [
        f"# {headline(report)}",
        "",
        picture,
        "",
        f"The population stability index compares how often each class is predicted now with how "
        f"often model {report.model.version} predicted it on its test set. From {WATCH:g} on it is "
        f"worth a look, from {DRIFTED:g} on the pictures have drifted (Siddiqi 2006). A batch that "
        "is too small to tell says so: the column *by chance* is what 19 of 20 batches of that "
        "size stay below without any drift.",
        "",
        "| batch | predicted by | pictures | blank | unreadable | confidence | PSI | by chance | |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {batch.created[:16].replace('T', ' ')} UTC, {batch.run} | model {batch.model} | "
        f"{sum(batch.counts)} | {batch.blank} | {batch.unreadable} | {batch.confidence:.3f} | "
        f"{_numbers(drift)} |"
        for batch, drift in reversed(report.batches)
    ]
    lines += [
        f"| **all of them** | | {report.now.images} | | | {report.now.confidence:.3f} | "
        f"{_numbers(report.drift)} |",
        f"| test set | model {report.model.version} | {report.then.images} | | | "
        f"{report.then.confidence:.3f} | | | |",
        "",
        "| class | on the test set | now | part of the PSI |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {then * 100:.1f} % | {now * 100:.1f} % | {term:.3f} |"
        for name, then, now, term in by_class(report)
    ]
    return "\n".join([*lines, ""])


def as_json(report: DriftReport) -> dict[str, Any]:
    """Return the report as a JSON object."""
    return {
        "model": report.model.version,
        "state": report.state,
        "test_set": {"pictures": report.then.images, "confidence": report.then.confidence},
        "together": {
            "pictures": report.now.images,
            "confidence": report.now.confidence,
            **_drift_json(report.drift),
        },
        "classes": [
            {"class": name, "test_set": then, "now": now, "psi": term}
            for name, then, now, term in zip(
                report.model.class_names,
                report.then.counts,
                report.now.counts,
                report.drift.terms,
                strict=True,
            )
        ],
        "batches": [
            {
                "created": batch.created,
                "run": batch.run,
                "model": batch.model,
                "pictures": sum(batch.counts),
                "blank": batch.blank,
                "unreadable": batch.unreadable,
                "confidence": batch.confidence,
                **_drift_json(drift),
            }
            for batch, drift in report.batches
        ],
    }


def _drift_json(drift: Drift) -> dict[str, Any]:
    return {"psi": drift.psi, "by_chance": drift.chance, "state": drift.state}


def _numbers(drift: Drift) -> str:
    return f"{drift.psi:.3f} | {drift.chance:.3f} | {drift.state}"
