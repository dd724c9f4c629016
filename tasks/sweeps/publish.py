"""The last step of a sweep: its ranking and its report in the Prefect UI."""

from __future__ import annotations

from digitflow.storage.store import Store
from digitflow.tasks.engine.step import step
from digitflow.tasks.reporting.artifacts import markdown_artifact, table_artifact
from digitflow.tasks.sweeps.report import (
    SweepSummary,
    points_table,
    sweep_headline,
    sweep_markdown,
)


@step("publish-sweep", "Leave the ranking of the points and the sweep's report in the UI.")
def publish_sweep(summary: SweepSummary) -> None:
    """Create the artifacts of a sweep, the report last: the UI lists the newest first.

    Raises
    ------
    ValueError
        If the sweep has no figure.
    """
    figure = summary.run.output("compare", "sweep")
    if figure is None:
        message = "expected a sweep with the stage compare, found one without"
        raise ValueError(message)
    png = Store().objects.verify(figure.sha256, figure.size).read_bytes()
    about = f"Sweep · {sweep_headline(summary)}"
    rows, text = points_table(summary), sweep_markdown(summary, png)
    table_artifact(rows, key="digitflow-sweep-points", description=about)
    markdown_artifact(text, key="digitflow-sweep", description=about)
