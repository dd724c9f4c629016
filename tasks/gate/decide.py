"""The last step of retraining: put the new model through the gate.

Never cached: a decision belongs to its day.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from prefect import get_run_logger

from digitflow.storage.history.models import ModelVersion, Move
from digitflow.storage.store import Store
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.engine.step import step
from digitflow.tasks.gate.approval import Approval
from digitflow.tasks.gate.candidate import check_comparable
from digitflow.tasks.gate.compare import Comparison, champions_standing, compare
from digitflow.tasks.gate.decision import Verdict, decision_markdown, stays, unchanged_markdown
from digitflow.tasks.gate.outbox import tell
from digitflow.tasks.gate.rules import Rules
from digitflow.tasks.gate.ruling import PASSED, Ruling, rule
from digitflow.tasks.monitoring.publish import publish_drift
from digitflow.tasks.reporting.artifacts import markdown_artifact
from digitflow.tasks.reporting.run_summary import RunSummary


@step("gate", "Compare the new model with the champion, promote or reject it, and say why.")
def promote_or_reject(
    summary: RunSummary, rules: Rules, approval: Approval, source: SourceAnswer, model: str
) -> Verdict:
    """Put the model of a finished run through the gate.

    Parameters
    ----------
    summary
        The run.
    rules
        What the gate requires.
    approval
        When it asks a person.
    source
        What the data's source answered.
    model
        The named model whose champion is challenged.

    Raises
    ------
    LedgerError
        If it is not certain which version is the champion.
    ValueError
        If the run trained no model, or one for other classes or images of another size than the
        champion's.
    ObjectMissingError, ObjectDamagedError
        If something of the champion is lost that the verdict needs, and cannot be made again.
    """
    if summary.model is None:
        message = "expected a run that trained a model, found one that did not"
        raise ValueError(message)
    cache = Store()
    challenger = cache.models.load(summary.model)

    def compared(champion: ModelVersion | None) -> Comparison:
        if champion is not None:
            check_comparable(cache, challenger, champion)
        return compare(cache, summary, challenger, champion, rules, _lineage(cache, model))

    ruling = rule(
        cache,
        challenger,
        model,
        compared,
        rules,
        approval=approval,
        terms=asdict(rules),
        run=summary.name,
        log=get_run_logger(),
    )
    if ruling.word == "Promoted" and ruling.found is None:
        tell(cache)
        text = unchanged_markdown(
            ruling.headline, ruling.champion or challenger, source, notices=ruling.notices
        )
        return Verdict("Promoted", ruling.headline, text)
    if ruling.found is None:
        tell(cache)
        return _unchanged(cache, ruling, challenger, source)
    found = ruling.found
    get_run_logger().info(ruling.headline)
    tell(cache)
    drift = publish_drift(cache, ruling.champion)
    standing = "" if found.standing is None else str(found.standing)
    text = decision_markdown(
        found.decision,
        challenger,
        ruling.champion,
        source,
        drift,
        data=found.data,
        standing=standing,
        notices=ruling.notices,
        is_asked=ruling.question is not None,
    )
    if ruling.word != found.word:
        text = f"# {ruling.headline}\n\n{text.partition(chr(10))[2].lstrip()}"
    return Verdict(ruling.word, ruling.headline, text, ruling.question)


def publish_decision(headline: str, markdown: str) -> None:
    """Leave a decision in the UI, under the key that all of them have.

    To be called by the flow itself, so that it is listed before what its tasks leave.
    """
    markdown_artifact(markdown, key="digitflow-decision", description=headline)


def _unchanged(
    cache: Store, ruling: Ruling, challenger: ModelVersion, source: SourceAnswer
) -> Verdict:
    word: Literal["Unconfirmed", "Unchanged"] = "Unchanged"
    champion = ruling.champion or challenger
    headline = ruling.headline
    if source.unconfirmed:
        word = "Unconfirmed"
        headline = (
            f"The source does not confirm the data; {stays(champion)}. {headline}"
            if ruling.champion is not None
            else f"The source does not confirm the data. {headline}"
        )
    get_run_logger().info(headline)
    drift = publish_drift(cache, champion)
    standing = champions_standing(cache, champion)
    text = unchanged_markdown(
        headline,
        champion,
        source,
        drift,
        standing="" if standing is None else str(standing),
        notices=ruling.notices,
    )
    return Verdict(word, headline, text)


def _lineage(cache: Store, model: str) -> list[ModelVersion]:
    """Return the champions that led to this one, since a person promoted one by hand."""
    stack: list[Move] = []
    for move in cache.models.moves(model):
        if stack and move.why.startswith("rolled back"):
            stack.pop()
            if stack and stack[-1].version == move.version:
                continue
        if not move.why.startswith(PASSED):
            stack.clear()
        stack.append(move)
    return [cache.models.load(move.version) for move in stack]
