"""The last step of retraining: put the new model through the gate.

Never cached: a decision belongs to its day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from digitflow.storage.errors import MovedMeanwhileError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.engine.step import announce, step
from digitflow.tasks.gate.candidate import check_comparable
from digitflow.tasks.gate.decision import (
    decision_headline,
    decision_json,
    decision_markdown,
    unchanged_markdown,
)
from digitflow.tasks.gate.rules import Decision, Rules, decide
from digitflow.tasks.monitoring.publish import publish_drift
from digitflow.tasks.reporting.run_summary import RunSummary
from digitflow.tasks.stages.score import score


@dataclass(frozen=True)
class Verdict:
    """How a retraining ended: in a word for the run's state, in a sentence, and at length."""

    word: Literal["Promoted", "Rejected", "Unchanged", "Unconfirmed"]
    headline: str
    markdown: str


@step("gate", "Compare the new model with the champion, promote or reject it, and say why.")
def promote_or_reject(summary: RunSummary, rules: Rules, source: SourceAnswer) -> Verdict:
    """Put the model of a finished run through the gate.

    Parameters
    ----------
    summary
        The run.
    rules
        What the gate requires.
    source
        What the data's source answered.

    Raises
    ------
    ValueError
        If the run trained no model, or one for other classes or images of another size than the
        champion's.
    """
    if summary.model is None:
        message = "expected a run that trained a model, found one that did not"
        raise ValueError(message)
    cache = Store()
    challenger = cache.models.load(summary.model)
    while True:
        champion = cache.models.champion()
        if champion is not None and champion.version == challenger.version:
            return _unchanged(cache, champion, source)
        if champion is not None:
            check_comparable(cache, challenger, champion)
        decision = _compare(cache, summary, challenger, champion, rules)
        try:
            if decision.promoted:
                _promote(cache, summary, decision, challenger, champion)
            break
        except MovedMeanwhileError as error:
            get_run_logger().warning("Judging once more: %s", error)
    headline = decision_headline(decision, challenger, champion)
    get_run_logger().info(headline)
    announce(
        f"digitflow.model.{'promoted' if decision.promoted else 'rejected'}",
        f"digitflow.model.{challenger.version}",
        f"digitflow model version {challenger.version}",
        {
            "headline": headline,
            "version": challenger.version,
            "champion": None if champion is None else champion.version,
            "run": summary.name,
            **decision_json(decision, rules),
        },
    )
    drift = publish_drift(cache, champion)
    text = decision_markdown(decision, challenger, champion, source, drift)
    return Verdict("Promoted" if decision.promoted else "Rejected", headline, text)


def publish_decision(headline: str, markdown: str) -> None:
    """Leave a decision in the UI, under the key that all of them have.

    To be called by the flow itself, so that it is listed before what its tasks leave.
    """
    create_markdown_artifact(markdown, key="digitflow-decision", description=headline)


def _unchanged(cache: Store, champion: ModelVersion, source: SourceAnswer) -> Verdict:
    word: Literal["Unconfirmed", "Unchanged"]
    if source.unconfirmed:
        word = "Unconfirmed"
        headline = (
            f"Unchanged, but the source does not confirm the data; version {champion.version} "
            "stays the champion"
        )
    else:
        word = "Unchanged"
        headline = f"Nothing to do: version {champion.version}, the champion, is the same model"
    get_run_logger().info(headline)
    drift = publish_drift(cache, champion)
    return Verdict(word, headline, unchanged_markdown(headline, champion, source, drift))


def _compare(
    cache: Store,
    summary: RunSummary,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    rules: Rules,
) -> Decision:
    """Judge both models on the test images of the run."""
    labels = cache.read(_output(summary, "preprocess", "test_targets"))
    outputs = None if champion is None else _champions_outputs(cache, summary, champion)
    return decide(
        np.asarray(cache.read(challenger.predictions)["outputs"]),
        outputs,
        labels,
        challenger.class_names,
        rules,
    )


def _champions_outputs(cache: Store, summary: RunSummary, champion: ModelVersion) -> Any:
    test_inputs = _output(summary, "preprocess", "test_inputs")
    if champion.data["test_inputs"] == test_inputs.sha256:
        return cache.read(champion.predictions)["outputs"]
    inputs = {"model": champion.weights, "test_inputs": test_inputs}
    scored = score.run(cache, "score-champion", inputs, {}, run=summary.name)
    return cache.read(scored.outputs["outputs"])


def _output(summary: RunSummary, stage: str, name: str) -> Artifact:
    artifact = summary.output(stage, name)
    if artifact is None:
        message = f"expected a run with the stage {stage}, found one without"
        raise ValueError(message)
    return artifact


def _promote(
    cache: Store,
    summary: RunSummary,
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
) -> None:
    before = decision.champion_accuracy
    against = "" if before is None else f" against {before:.4f}"
    cache.models.promote(
        challenger.version,
        f"passed the gate in run {summary.name}: {decision.challenger_accuracy:.4f}{against}",
        judged_against=None if champion is None else champion.version,
    )
