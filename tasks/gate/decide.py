"""The last step of retraining: put the new model through the gate.

Never cached: a decision belongs to its day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from digitflow.storage.errors import MovedMeanwhileError
from digitflow.storage.models import ModelVersion, Move
from digitflow.storage.store import Store
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.engine.step import announce, step
from digitflow.tasks.gate.candidate import check_comparable
from digitflow.tasks.gate.compare import champions_standing, compare
from digitflow.tasks.gate.decision import (
    decision_headline,
    decision_json,
    decision_markdown,
    unchanged_markdown,
)
from digitflow.tasks.gate.rules import Decision, Rules
from digitflow.tasks.monitoring.publish import publish_drift
from digitflow.tasks.reporting.run_summary import RunSummary

_PASSED = "passed the gate in run"


@dataclass(frozen=True)
class Verdict:
    """How a retraining ended: in a word for the run's state, in a sentence, and at length."""

    word: Literal["Promoted", "Rejected", "Held", "Unchanged", "Unconfirmed"]
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
        found = compare(cache, summary, challenger, champion, rules, _lineage(cache))
        decision = found.decision
        try:
            if found.word == "Promoted":
                _promote(cache, summary, decision, challenger, champion)
            break
        except MovedMeanwhileError as error:
            get_run_logger().warning("Judging once more: %s", error)
    headline = decision_headline(decision, challenger, champion, found.doubts)
    get_run_logger().info(headline)
    announce(
        f"digitflow.model.{found.word.lower()}",
        f"digitflow.model.{challenger.version}",
        f"digitflow model version {challenger.version}",
        {
            "headline": headline,
            "version": challenger.version,
            "champion": None if champion is None else champion.version,
            "run": summary.name,
            **decision_json(decision, rules),
            **found.to_json(),
        },
    )
    drift = publish_drift(cache, champion)
    standing = "" if found.standing is None else str(found.standing)
    text = decision_markdown(
        decision, challenger, champion, source, drift, data=found.data, standing=standing
    )
    return Verdict(found.word, headline, text)


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
    standing = champions_standing(cache, champion)
    text = unchanged_markdown(
        headline, champion, source, drift, standing="" if standing is None else str(standing)
    )
    return Verdict(word, headline, text)


def _lineage(cache: Store) -> list[ModelVersion]:
    """Return the champions that led to this one, since a person promoted one by hand."""
    stack: list[Move] = []
    for move in cache.models.moves():
        if stack and move.why.startswith("rolled back"):
            stack.pop()
            if stack and stack[-1].version == move.version:
                continue
        if not move.why.startswith(_PASSED):
            stack.clear()
        stack.append(move)
    return [cache.models.load(move.version) for move in stack]


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
        f"{_PASSED} {summary.name}: {decision.challenger_accuracy:.4f}{against}",
        judged_against=None if champion is None else champion.version,
    )
