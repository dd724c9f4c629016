"""The flow `digitflow-retrain`: train, judge against the champion, promote or reject."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.exceptions import CancelledRun
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed
from pydantic import Field

from flows.options import Extra, RunOptions, with_run_options
from flows.title import show
from flows.train import run_stages
from storage.cache import Cache
from storage.models import ModelVersion
from tasks import decision as report
from tasks.gate import Decision, Rules, decide
from tasks.run_summary import RunSummary
from tasks.score import score

_Share = Annotated[float, Field(ge=0, le=1)]
_RULES = (
    Extra(
        "min_improvement",
        _Share,
        0.0,
        "By how much the new model's accuracy must exceed the champion's (share of 1).",
    ),
    Extra(
        "max_class_drop",
        _Share,
        0.02,
        "By how much the recall of any one class may fall (share of 1).",
    ),
    Extra("floor", _Share, 0.5, "Accuracy below which no model is promoted (share of 1)."),
)


@flow(
    name="digitflow-retrain",
    log_prints=False,
    persist_result=False,
    result_serializer="json",
)
@partial(with_run_options, extra=_RULES, without=("from_stage", "until"))
def retrain(
    options: RunOptions, *, min_improvement: float, max_class_drop: float, floor: float
) -> State[Any]:
    """Train, and promote the new model if it beats the champion on the same test images."""
    cache = Cache()
    cache.connect()
    with cache.in_use():
        try:
            dataset = options.find_dataset()
            summary = run_stages(cache, options, dataset)
        except CancelledRun:
            return Cancelled(message="stopped on request; what was finished is cached")
        state = judge(cache, summary, Rules(min_improvement, max_class_drop, floor))
        verdict = [str(state.name).lower()]
        show(summary.name, dataset.name, options.preset, summary.metrics, verdict)
        return state


def judge(cache: Cache, summary: RunSummary, rules: Rules) -> State[Any]:
    """Put the model of a finished run through the gate, and say so in the UI.

    Returns
    -------
    State
        Completed as ``Promoted`` or ``Unchanged``, or failed as ``Rejected``: what needs a
        person's eyes is red in every list of runs, and is found by whoever looks for failures.

    Raises
    ------
    ValueError
        If the run trained no model.
    """
    if summary.model is None:
        message = "expected a run that trained a model, found one that did not"
        raise ValueError(message)
    challenger, champion = cache.models.load(summary.model), cache.models.champion()
    if champion is not None and champion.version == challenger.version:
        message = f"nothing to do: version {champion.version} is this very model, and the champion"
        get_run_logger().info(message)
        _publish(f"# Nothing has changed\n\n{message}.\n", message)
        return Completed(name="Unchanged", message=message)

    decision = compare(cache, summary, challenger, champion, rules)
    headline = report.headline(decision, challenger, champion)
    get_run_logger().info(headline)
    if decision.promoted:
        cache.models.promote(challenger.version, f"passed the gate in run {summary.name}")
    _publish(report.markdown(decision, challenger, champion), headline)
    _emit(decision, challenger, champion)
    if decision.promoted:
        return Completed(name="Promoted", message=headline)
    return Failed(name="Rejected", message=headline)


def compare(
    cache: Cache,
    summary: RunSummary,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    rules: Rules,
) -> Decision:
    """Judge both models on the test images of the run."""
    targets = cache.read(_output(summary, "preprocess", "test_targets"))
    labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
    outputs = None if champion is None else _champions_outputs(cache, summary, champion)
    return decide(
        np.asarray(cache.read(challenger.predictions)["outputs"]),
        outputs,
        labels,
        challenger.class_names,
        rules,
    )


def _champions_outputs(cache: Cache, summary: RunSummary, champion: ModelVersion) -> Any:
    test_inputs = _output(summary, "preprocess", "test_inputs")
    if champion.data["test_inputs"] == test_inputs.sha256:
        return cache.read(champion.predictions)["outputs"]
    inputs = {"model": champion.weights, "test_inputs": test_inputs}
    scored = score.run(cache, "score-champion", inputs, {}, run=summary.name)
    return cache.read(scored.outputs["outputs"])


def _output(summary: RunSummary, stage: str, name: str) -> Any:
    artifact = summary.output(stage, name)
    if artifact is None:
        message = f"expected a run with the stage {stage}, found one without"
        raise ValueError(message)
    return artifact


def _publish(markdown: str, headline: str) -> None:
    create_markdown_artifact(markdown, key="digitflow-decision", description=headline)


def _emit(decision: Decision, challenger: ModelVersion, champion: ModelVersion | None) -> None:
    """Tell Prefect's automations, so that they can notify people or start something."""
    kind = "promoted" if decision.promoted else "rejected"
    emit_event(
        event=f"digitflow.model.{kind}",
        resource={
            "prefect.resource.id": f"digitflow.model.{challenger.version}",
            "prefect.resource.name": f"digitflow model version {challenger.version}",
        },
        related=[
            {
                "prefect.resource.id": f"prefect.flow-run.{flow_run.id}",
                "prefect.resource.role": "flow-run",
            }
        ],
        payload={
            "version": challenger.version,
            "champion": champion.version if champion is not None else None,
            "accuracy": decision.challenger_accuracy,
            "champion_accuracy": decision.champion_accuracy,
            "p_value": decision.p_value,
        },
    )
