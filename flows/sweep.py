"""The flow `digitflow-sweep`: train the points of a grid, rank them, test the winner."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
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

from flows.halving import EarlyStop, check_halving
from flows.options import Extra, RunOptions, with_run_options
from flows.pipeline import STAGES, Selection, pipeline
from flows.summary import summarise
from flows.sweep_points import Trainer, train_all
from flows.title import own_name, show
from storage.cache import Cache
from tasks.compare import compare
from tasks.config import as_typed
from tasks.data.sources import DEFAULT_DATASET, Dataset
from tasks.grid import MOST_POINTS, Point, plan_points
from tasks.interruption import StoppedError
from tasks.prefect_stage import submit
from tasks.publish import publish
from tasks.publish_sweep import publish_sweep
from tasks.ranking import METRICS, Metric, Outcome, rank, rows
from tasks.results import check_results_folder
from tasks.stage import Handle, Refs, Stage
from tasks.sweep_summary import SweepSummary

_SWEEP = (
    Extra(
        "grid",
        list[str],
        [],
        "Rows of parameters to try, such as learning_rate=0.001,0.002 or hidden_sizes=128,512-256.",
    ),
    Extra(
        "random",
        Annotated[int, Field(ge=1, le=MOST_POINTS)] | None,
        None,
        "Try so many points, drawn at random, instead of the whole grid; rows may then also be "
        "ranges, such as learning_rate=0.0001..0.01.",
    ),
    Extra("random_seed", Annotated[int, Field(ge=0, lt=2**63)], 0, "Seed of that drawing."),
    Extra("metric", Metric, METRICS[0], "What the points are ranked by."),
    Extra(
        "early_stop",
        EarlyStop | None,
        None,
        "Stop the worse points early; successive-halving keeps the better third at each rung.",
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
    options.check_workers()
    if early_stop is not None:
        check_halving(points)
    cache = Cache()
    cache.connect()
    with cache.in_use():
        try:
            return run_sweep(cache, options, points, metric, halving=early_stop is not None)
        except (CancelledRun, StoppedError) as stop:
            return Cancelled(message=f"{stop}; finished points are cached, a new run goes on")


def run_sweep(
    cache: Cache, options: RunOptions, points: Sequence[Point], metric: str, *, halving: bool
) -> SweepSummary:
    """Sweep inside a flow, publish the results and return what was found.

    Parameters
    ----------
    cache
        The store, connected and in use.
    options
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
    dataset = options.find_dataset()
    options.check_samples(dataset)
    run = own_name(flow_run.name or "unnamed", dataset.name, options.preset)
    check_results_folder(options.results_folder(run))
    show(run, dataset.name, options.preset, {}, tags=["sweep"])
    logger = get_run_logger()
    logger.info("Dataset %s, preset %s, %d points", dataset.title, options.preset, len(points))

    from flows.workers import Workers  # imports Dask

    for stage in (*STAGES, compare):
        stage.digest_code(cache)
    called: dict[str, Handle] = {}

    def call(stage: Stage, label: str, inputs: Refs, parameters: Mapping[str, Any]) -> Handle:
        # The winner's pipeline asks again for what was prepared for all, and trained.
        if label not in called:
            future = submit(stage, label, inputs, parameters, run=run, refresh=False)
            called[label] = Handle(stage, future)
        return called[label]

    def walk(parameters: Any, selection: Selection) -> None:
        pipeline(call, dataset, options.mirrors(dataset), parameters, selection)

    walk(points[0].parameters, Selection(until="preprocess"))
    called["preprocess"].source.result()
    with Workers(
        cache, run, at_most=len(points), count=options.workers, scheduler=options.scheduler
    ) as workers:
        trainer = Trainer(cache, workers, called["preprocess"], len(dataset.labels), metric)
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
    walk(winner.point.parameters, Selection())
    names = tuple(winner.point.values)
    table = {
        "points": rows(ranked),
        "names": list(names),
        "metric": metric,
        "dataset": dataset.title,
        "dpi": winner.point.parameters.dpi,
    }
    call(compare, "compare", {}, table)
    stages = tuple(
        each.source if label == "train" else each.source.result() for label, each in called.items()
    )
    own = replace(options, overrides={**options.overrides, **winner.point.values})
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
        words += ["--mirror", options.mirror]
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
