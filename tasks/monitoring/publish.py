"""Leave the report on drift in the UI, beside a decision about the champion."""

from __future__ import annotations

from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.engine.step import announce
from digitflow.tasks.monitoring.report import (
    drift_headline,
    drift_markdown,
    drift_picture,
    report_drift,
)
from digitflow.tasks.reporting.artifacts import markdown_artifact


def publish_drift(cache: Store, champion: ModelVersion | None) -> str:
    """Report how far recent pictures are from the champion's test set.

    Returns
    -------
    str
        The report in one line, for the decision. Without recorded predictions, or a champion,
        that line is all there is.
    """
    report = None if champion is None else report_drift(cache, champion)
    headline = drift_headline(report)
    if report is not None:
        text = drift_markdown(report, drift_picture(report))
        markdown_artifact(text, key="digitflow-drift", description=headline)
        if report.state == "drifted":
            version = report.model.version
            announce(
                "digitflow.model.drifted",
                f"digitflow.model.{version}",
                f"digitflow model version {version}",
                {"headline": headline, "version": version, "pictures": report.now.images},
            )
    return headline
