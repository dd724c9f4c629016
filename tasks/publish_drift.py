"""Leave the report on drift in the UI, beside a decision about the champion."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from storage.cache import Cache
from storage.models import ModelVersion
from tasks.drift_report import report_drift
from tasks.drift_text import draw, headline, markdown
from tasks.report import embedded_bytes


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
