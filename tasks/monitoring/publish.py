"""Leave the report on drift in the UI, beside a decision about the champion."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion
from digitflow.tasks.monitoring.report import report_drift
from digitflow.tasks.monitoring.text import draw, headline, markdown
from digitflow.tasks.reporting.report import embedded_bytes


def publish_drift(cache: Cache, champion: ModelVersion | None) -> str:
    """Report how far the pictures lately are from the champion's test set.

    Returns
    -------
    str
        The report in one line, for the decision. Without recorded predictions, or a champion,
        that line is all there is.
    """
    report = None if champion is None else report_drift(cache, champion)
    if report is None:
        return headline(None)
    picture = embedded_bytes(draw(report), "Predictions now and on the test set")
    said = headline(report)
    create_markdown_artifact(markdown(report, picture), key="digitflow-drift", description=said)
    return said
