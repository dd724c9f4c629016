"""What a run did, put together once all of its stages are done."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from digitflow.flows.spec import RunSpec
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import StageResult
from digitflow.tasks.gate.candidate import register_model
from digitflow.tasks.reporting.results import read_metrics
from digitflow.tasks.reporting.run_summary import RunSummary


def summarise(
    cache: Store,
    spec: RunSpec,
    run: str,
    stages: tuple[StageResult, ...],
    started: float,
    workers: Mapping[str, Any] | None = None,
) -> RunSummary:
    """Return the summary of a run, and register the model that it trained.

    Parameters
    ----------
    cache
        The store.
    spec
        What the run was to do.
    run
        Its name.
    stages
        Results of its stages, in order.
    started
        When it started, by `time.perf_counter`.
    workers
        What trained, if it was not this process.
    """
    summary = RunSummary(
        name=run,
        dataset=spec.dataset.title,
        preset=spec.preset,
        parameters=spec.parameters.model_dump(mode="json"),
        stages=stages,
        seconds=round(time.perf_counter() - started, 3),
        metrics=read_metrics(cache, stages),
        folder=spec.results_folder(run),
        workers=workers,
        source=spec.dataset,
        named=spec.options.dataset,
    )
    model = register_model(cache, summary, spec.dataset)
    if model is None:
        return summary
    state = cache.models.state()
    return replace(summary, model=model.version, notices=state.said_of(state.named(model)))
