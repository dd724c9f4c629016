"""The last step of a sweep: its ranking and its report in the Prefect UI."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from digitflow.storage.cache import Cache
from digitflow.tasks.sweeps.report import headline, markdown, table
from digitflow.tasks.sweeps.summary import SweepSummary


@task(
    name="publish-sweep",
    task_run_name="publish-sweep",
    description="Leave the ranking of the points and the sweep's report in the UI.",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def publish_sweep(summary: SweepSummary) -> None:
    """Create the artifacts of a sweep, the report last: the UI lists the newest first.

    Parameters
    ----------
    summary
        The finished sweep.
    """
    description = f"Sweep · {headline(summary)}"
    create_table_artifact(table(summary), key="digitflow-sweep-points", description=description)
    figure = summary.run.output("compare", "sweep")
    if figure is None:
        message = "expected a sweep with the stage compare, found one without"
        raise ValueError(message)
    path = Cache().objects.verify(figure.sha256, figure.size)
    create_markdown_artifact(
        markdown(summary, path), key="digitflow-sweep", description=description
    )
