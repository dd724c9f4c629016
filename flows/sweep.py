"""The flow `digitflow-sweep`: train the points of a grid, rank them, test the winner."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect.utilities.annotations import quote
from pydantic import Field

from digitflow.flows.pipeline import STAGES, pipeline
from digitflow.flows.selection import Selection
from digitflow.flows.spec import Extra, RunOptions, RunSpec, with_run_options
from digitflow.flows.summary import summarise
from digitflow.flows.sweep_points import Trainer, train_all
from digitflow.flows.title import own_name, show
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.data.datasets.sources import DEFAULT_DATASET, Dataset
from digitflow.tasks.engine.call import Call, Context, Handle, using
from digitflow.tasks.engine.cancellation import StoppedError
from digitflow.tasks.engine.prefect_task import submit
from digitflow.tasks.parameters import as_typed
from digitflow.tasks.reporting.publish import publish
from digitflow.tasks.reporting.results import check_results_folder
from digitflow.tasks.stages.compare import compare
from digitflow.tasks.sweeps.grid import MOST_POINTS, Point, plan_points
from digitflow.tasks.sweeps.halving import EarlyStop, check_halving
from digitflow.tasks.sweeps.publish import publish_sweep
from digitflow.tasks.sweeps.ranking import METRICS, Metric, Outcome, rank, rows
from digitflow.tasks.sweeps.report import SweepSummary

_SWEEP = (
    Extra(
        "grid",
        list[str],
        [],
        "Parameters and the values to try, such as learning_rate=0.001,0.002 or "
        "hidden_sizes=128,512-256.",
    ),
    Extra(
        "random",
        Annotated[int, Field(ge=1, le=MOST_POINTS)] | None,
        None,
        "Number of points to draw at random, instead of the whole grid; values may then also be "
        "ranges, such as learning_rate=0.0001..0.01.",
    ),
    Extra(
        "random_seed",
        Annotated[int, Field(ge=0, lt=2**63)],
        0,
        "Seed for drawing points at random.",
    ),
    Extra("metric", Metric, METRICS[0], "Metric to rank the points by."),
    Extra(
        "early_stop",
        EarlyStop | None,
        None,
        "Stop poor points early; successive-halving keeps the best third at each rung.",
    ),
)
NOT_OF_SWEEPS = ("refresh", "from_stage", "until")


class SweepFailedError(Exception):
    """No point of a sweep could be trained."""


@flow(
    name="digitflow-sweep",
    log_prints=False,
    persist_result=False,
    result_serializer="json",
)
@partial(with_run_options, extra=_SWEEP, without=NOT_OF_SWEEPS)
def sweep(
    options: RunOptions,
    *,
    grid: Sequence[str],
    random: int | None,
    random_seed: int,
    metric: str,
    early_stop: str | None,
) -> SweepSummary | State[Any]:
    """Train every point of a grid, rank them by the validation set, and test the winner once."""
    points = plan_points(options.preset, options.overrides, grid, random=random, seed=random_seed)
    spec = options.spec()
    if early_stop is not None:
        check_halving(points)
    cache = Store()
    cache.connect()
    with cache.in_use():
        try:
            return run_sweep(cache, spec, points, metric, halving=early_stop is not None)
        except (CancelledRun, StoppedError) as stop:
            return Cancelled(message=f"{stop}; finished points are cached, a new run goes on")


def run_sweep(
    cache: Store, spec: RunSpec, points: Sequence[Point], metric: str, *, halving: bool
) -> SweepSummary:
    """Sweep inside a flow, publish the results and return what was found.

    Parameters
    ----------
    cache
        The store, connected and in use.
    spec
        What is the same for every point.
    points
        To train, at least one.
    metric
        To rank them by.
    halving
        Whether the worse points are stopped early.

    Raises
    ------
    SweepFailedError
        If every point failed.
    StoppedError
        If a stop was asked for.
    """
    started = time.perf_counter()
    dataset, options = spec.dataset, spec.options
    run = own_name(flow_run.name or "unnamed", dataset.name, spec.preset)
    check_results_folder(spec.results_folder(run))
    show(run, dataset.name, spec.preset, {}, tags=["sweep"])
    logger = get_run_logger()
    logger.info("Dataset %s, preset %s, %d points", dataset.title, spec.preset, len(points))

    from digitflow.flows.workers import Workers  # imports Dask

    for stage in (*STAGES, compare):
        stage.digest_code(cache)
    called: dict[str, Handle] = {}

    def execute(call: Call, context: Context) -> Any:
        # The winner's pipeline asks again for what was prepared for all, and trained.
        if call.label not in called:
            called[call.label] = Handle(call.stage, submit(call, context))
        return called[call.label].source

    context = Context(cache, run, execute)
    with using(context):
        pipeline(
            replace(spec, parameters=points[0].parameters, selection=Selection(until="preprocess"))
        )
    called["preprocess"].result()
    with Workers(
        cache, run, at_most=len(points), count=options.workers, scheduler=options.scheduler
    ) as workers:
        trainer = Trainer(context, workers, called["preprocess"], len(dataset.labels), metric)
        began = time.perf_counter()
        outcomes = train_all(trainer, points, halving=halving)
        seconds = round(time.perf_counter() - began, 3)
        trained_by = workers.describe()
    ranked = rank(outcomes, metric)
    winner = ranked[0]
    if not winner.scores:
        raise SweepFailedError(_all_failed(ranked))
    logger.info("The winner is %s", winner.point.label)

    called["train"] = Handle(
        trainer.trained[winner.point.label].stage, trainer.result(winner.point)
    )
    own = replace(
        spec,
        parameters=winner.point.parameters,
        options=replace(options, overrides={**options.overrides, **winner.point.values}),
    )
    names = tuple(winner.point.values)
    with using(context):
        pipeline(own)
        compare.submit(
            points=rows(ranked),
            names=list(names),
            metric=metric,
            dataset=dataset.title,
            dpi=winner.point.parameters.dpi,
        )
    stages = tuple(handle.result() for handle in called.values())
    summary = replace(
        summarise(cache, own, run, stages, started, trained_by),
        sweep=_record(ranked, names, metric, trainer, seconds, halving=halving),
    )
    found = SweepSummary(
        summary,
        names,
        metric,
        tuple(ranked),
        winners_command(options, winner.point, dataset),
        trainer.epochs,
        sum(point.parameters.epochs for point in points),
    )
    published = publish.submit(quote(summary), return_state=False)
    published.result()
    publish_sweep.submit(quote(found), wait_for=[published], return_state=False).result()
    show(run, dataset.name, options.preset, summary.metrics, tags=["sweep"])
    return found


def winners_command(options: RunOptions, winner: Point, dataset: Dataset) -> str:
    """Return the command that trains the winner on all the data.

    No image is held back for validation, as nothing is chosen any more; but early stopping needs
    those images.
    """
    settings = {**options.overrides, **winner.values}
    if not winner.parameters.patience:
        settings["validation_size"] = 0
    if winner.parameters.training_sample:
        settings["training_sample"] = 0
    words = ["digitflow", "run", "--preset", options.preset]
    if options.dataset != DEFAULT_DATASET:
        words += ["--dataset", options.dataset]
    if options.mirror is not None:
        words += ["--mirror", display(options.mirror)]
    words += ["--set", *(f"{name}={as_typed(value)}" for name, value in settings.items())]
    return shlex.join(words)


def _all_failed(outcomes: Sequence[Outcome]) -> str:
    first = outcomes[0]
    return (
        f"none of the {len(outcomes)} points could be trained; the first, {first.point.label}: "
        f"{first.error}"
    )


def _record(
    ranked: Sequence[Outcome],
    names: Sequence[str],
    metric: str,
    trainer: Trainer,
    seconds: float,
    *,
    halving: bool,
) -> dict[str, Any]:
    points = [
        {
            **row,
            "values": dict(outcome.point.values),
            "key": outcome.key,
            "seconds": outcome.seconds,
            "error": outcome.error,
        }
        for row, outcome in zip(rows(ranked), ranked, strict=True)
    ]
    return {
        "names": list(names),
        "metric": metric,
        "early_stop": "successive-halving" if halving else None,
        "epochs": trainer.epochs,
        "seconds": seconds,
        "points": points,
    }
