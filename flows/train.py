"""The flow `digitflow`: the pipeline on Prefect, from mirrors to a trained and judged network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.utilities.annotations import quote

from digitflow.flows.pipeline import STAGES, pipeline
from digitflow.flows.spec import RunOptions, with_run_options
from digitflow.flows.summary import summarise
from digitflow.flows.title import own_name, show
from digitflow.storage.cache import Cache
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.prefect_task import submit
from digitflow.tasks.engine.stage import Handle, Refs, Stage, StageResult
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
    cache = Cache()
    cache.connect()
    with cache.in_use():
        try:
            return run_stages(cache, options, options.find_dataset())
        except (CancelledRun, StoppedError):
            return Cancelled(message="stopped on request; what was finished is cached")


def run_stages(cache: Cache, options: RunOptions, dataset: Dataset) -> RunSummary:
    """Run the pipeline inside a flow, publish its results and return what it did.

    Parameters
    ----------
    cache
        The store, connected and in use.
    options
        What to run.
    dataset
        On what, found once: a folder may hold other files a moment later.
    """
    started = time.perf_counter()
    run = own_name(flow_run.name or "unnamed", dataset.name, options.preset)
    parameters = options.resolve()
    options.check_samples(dataset)
    check_results_folder(options.results_folder(run))
    logger = get_run_logger()
    logger.info("Dataset %s, preset %s, %s", dataset.title, options.preset, parameters)
    show(run, dataset.name, options.preset, {})

    for stage in STAGES:
        stage.digest_code(cache)
    selection = options.selection()
    futures = []
    with ExitStack() as stack:
        workers = None
        if parameters.members > 1:
            from digitflow.flows.dask.workers import (
                Workers,  # a second, for what most runs do not need
            )

            workers = stack.enter_context(
                Workers(
                    cache,
                    run,
                    at_most=parameters.members,
                    count=options.workers,
                    scheduler=options.scheduler,
                )
            )

        def call(stage: Stage, label: str, inputs: Refs, parameters: Mapping[str, Any]) -> Handle:
            refresh = selection.refreshes(stage.name)
            if workers is not None and stage.name == "train":
                future = workers.submit(stage, label, inputs, parameters, refresh=refresh)
            else:
                future = submit(stage, label, inputs, parameters, run=run, refresh=refresh)
            futures.append(future)
            return Handle(stage, future)

        pipeline(call, dataset, options.mirrors(dataset), parameters, selection)
        if workers is not None:
            workers.wait()
        stages: tuple[StageResult, ...] = tuple(future.result() for future in futures)
    trained_by = None if workers is None else workers.describe()
    summary = summarise(cache, options, run, stages, started, trained_by)
    # Quoted: Prefect would draw an edge from every stage that the summary speaks of.
    publish.submit(quote(summary), wait_for=futures[-1:], return_state=False).result()
    publish_report(cache, summary)
    show(run, dataset.name, options.preset, summary.metrics)
    return summary
