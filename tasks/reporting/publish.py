"""The last step of every run: results folder, run record, Prefect artifacts, the report on top.

Never cached. A cached task recreates no artifacts, so a run that computes nothing would
otherwise show nothing.
"""

from __future__ import annotations

from pathlib import Path

from digitflow.storage.store import Store
from digitflow.tasks.engine.step import step
from digitflow.tasks.reporting.artifacts import markdown_artifact, table_artifact
from digitflow.tasks.reporting.render import picture
from digitflow.tasks.reporting.report import (
    FIGURES,
    history_table,
    per_class_table,
    run_card,
    run_markdown,
)
from digitflow.tasks.reporting.results import write_results
from digitflow.tasks.reporting.run_summary import RunSummary


@step("publish", "Write the results folder, and leave figures and tables in the UI.")
def publish(summary: RunSummary) -> None:
    """Write a run's results and record, and leave its figures and tables in the UI.

    Parameters
    ----------
    summary
        The finished run.
    """
    cache = Store()
    write_results(cache, summary)
    cache.runs.save(summary.record())
    _create_artifacts(cache, summary)


def publish_report(cache: Store, summary: RunSummary) -> None:
    """Leave a run's report in the UI.

    To be called by the flow itself: the UI lists what a flow leaves before what its tasks leave,
    and those in no order.
    """
    figures = _figures(cache, summary)
    inside = ("learning_curves", "confusion_matrix")
    markdown_artifact(
        run_markdown(summary, {name: figures[name] for name in inside if name in figures}),
        key="digitflow-report",
        description=run_card("Report", summary),
    )


def _figures(cache: Store, summary: RunSummary) -> dict[str, Path]:
    drawn = {name: summary.output("plot", name) for name in FIGURES}
    return {
        name: cache.objects.path(artifact.sha256)
        for name, artifact in drawn.items()
        if artifact is not None
    }


def _create_artifacts(cache: Store, summary: RunSummary) -> None:
    for name, path in _figures(cache, summary).items():
        title = FIGURES[name]
        markdown_artifact(
            picture(path.read_bytes(), title),
            key=f"digitflow-{name.replace('_', '-')}",
            description=run_card(title, summary),
        )
    if summary.metrics:
        table_artifact(
            per_class_table(summary.metrics),
            key="digitflow-per-class",
            description=run_card("Precision, recall, F1", summary),
        )
    history = summary.output("train", "history")
    if history is not None:
        table_artifact(
            history_table(cache.objects.path(history.sha256)),
            key="digitflow-history",
            description=run_card("Loss and accuracy by epoch", summary),
        )
