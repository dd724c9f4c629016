"""The flow `digitflow`: the pipeline on Prefect, from mirrors to a trained and judged network."""

from __future__ import annotations

import time
from contextlib import ExitStack

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.utilities.annotations import quote

from digitflow.flows.pipeline import STAGES, pipeline
from digitflow.flows.spec import RunOptions, RunSpec, with_run_options
from digitflow.flows.summary import summarise
from digitflow.flows.title import own_name, show
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, Executor, using
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.prefect_task import submit
from digitflow.tasks.reporting.publish import publish, publish_report
from digitflow.tasks.reporting.results import check_results_folder
from digitflow.tasks.reporting.run_summary import RunSummary


@flow(
    name="digitflow",
    log_prints=False,
    # Results lie in our store. What fails a flow Prefect writes all the same, and would pickle it.
    persist_result=False,
    result_serializer="json",
)
@with_run_options
def train(options: RunOptions) -> RunSummary | State[RunSummary]:
    """Train a digit classifier: download, decode, preprocess, train, evaluate, plot."""
    cache = Store()
    cache.connect()
    with cache.in_use():
        try:
            return run_stages(cache, options.spec())
        except (CancelledRun, StoppedError):
            return Cancelled(message="stopped on request; what was finished is cached")


def run_stages(cache: Store, spec: RunSpec) -> RunSummary:
    """Run the pipeline inside a flow, publish its results and return what it did.

    Parameters
    ----------
    cache
        The store, connected and in use.
    spec
        What to run, on what.
    """
    started = time.perf_counter()
    dataset, preset = spec.dataset, spec.preset
    run = own_name(flow_run.name or "unnamed", dataset.name, preset)
    check_results_folder(spec.results_folder(run))
    get_run_logger().info("Dataset %s, preset %s, %s", dataset.title, preset, spec.parameters)
    show(run, dataset.name, preset, {})

    for stage in STAGES:
        stage.digest_code(cache)
    with ExitStack() as stack:
        execute: Executor = submit
        workers = None
        if spec.parameters.members > 1:
            # Dask is a second of imports, for what most runs do not need.
            from digitflow.flows.workers import Workers

            workers = stack.enter_context(
                Workers(
                    cache,
                    run,
                    at_most=spec.parameters.members,
                    count=spec.options.workers,
                    scheduler=spec.options.scheduler,
                )
            )
            execute = workers.executor("train")
        context = Context(cache, run, execute, spec.selection.refreshes)
        stack.enter_context(using(context))
        pipeline(spec)
        if workers is not None:
            workers.wait()
        stages = tuple(handle.result() for handle in context.called)
    trained_by = None if workers is None else workers.describe()
    summary = summarise(cache, spec, run, stages, started, trained_by)
    # Quoted: Prefect would draw an edge from every stage that the summary speaks of.
    published = publish.submit(
        quote(summary), wait_for=[context.called[-1].source], return_state=False
    )
    published.result()
    publish_report(cache, summary)
    show(run, dataset.name, preset, summary.metrics)
    return summary
