"""The last step of retraining: put the new model through the gate.

Never cached: a decision belongs to its day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from prefect import get_run_logger
from prefect.runtime import flow_run

from digitflow.storage.errors import MovedMeanwhileError, VerdictError
from digitflow.storage.history.models import LedgerEntry, ModelVersion, Move, State, judged_alike
from digitflow.storage.store import Store
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.engine.step import step
from digitflow.tasks.gate.approval import Approval
from digitflow.tasks.gate.candidate import check_comparable
from digitflow.tasks.gate.compare import champions_standing, compare
from digitflow.tasks.gate.decision import (
    Verdict,
    decision_headline,
    decision_json,
    decision_markdown,
    stays,
    unchanged_markdown,
)
from digitflow.tasks.gate.outbox import tell
from digitflow.tasks.gate.rules import Decision, Rules
from digitflow.tasks.monitoring.publish import publish_drift
from digitflow.tasks.recomputation.recompute import Recomputed
from digitflow.tasks.recomputation.reproduce import NotReproducibleError, lost_of, restore_lost
from digitflow.tasks.reporting.artifacts import markdown_artifact
from digitflow.tasks.reporting.run_summary import RunSummary

_PASSED = "passed the gate in run"


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
    champion = cache.models.state().champion(model)
    if champion is not None:
        _mend(cache, champion)
    while True:
        state = cache.models.state()
        cache.models.check_certain(state)
        champion = state.champion(model)
        last = state.last_verdict(model, challenger)
        if champion is not None and last is not None and _is_of_this_run(last, "promoted"):
            # The run was killed after it had promoted: it says so again.
            tell(cache)
            headline = str(last.details["headline"])
            text = unchanged_markdown(headline, champion, source, notices=state.said_of(model))
            return Verdict("Promoted", headline, text)
        if (why := _settled(state, model, challenger, rules, approval)) is not None:
            tell(cache)
            return _unchanged(
                cache,
                why,
                champion or challenger,
                source,
                has_champion=champion is not None,
                notices=state.said_of(model),
            )
        if champion is not None:
            check_comparable(cache, challenger, champion)
        found = compare(cache, summary, challenger, champion, rules, _lineage(cache, model))
        decision = found.decision
        hold = state.standing(model).hold
        word = "Held" if found.word == "Promoted" and hold is not None else found.word
        headline = decision_headline(decision, challenger, champion, found.doubts)
        if word != found.word and hold is not None:
            headline = (
                f"Held: version {challenger.version} passed the gate, and the champion of {model} "
                f"is on hold {hold.said}"
            )
        # Whoever put the champion on hold has answered already.
        is_asked = hold is None and approval.asks(word)
        if is_asked and word == "Promoted":
            word = "Held"
            headline = (
                f"Held: version {challenger.version} passed the gate and waits for a person's "
                f"verdict; {stays(champion)}"
            )
        numbers = {
            "headline": headline,
            "version": challenger.version,
            "champion": None if champion is None else champion.version,
            "run": summary.name,
            "flow_run": flow_run.id,
            "rules": asdict(rules),
            "approval": approval.when,
            **({} if hold is None else {"hold": hold.token}),
            **decision_json(decision, rules),
            **found.to_json(),
        }
        if is_asked:
            numbers["until"] = approval.until()
            if found.word == "Promoted":
                numbers["passed"] = _passed(summary, decision)
        try:
            if word == "Promoted":
                _promote(cache, summary, decision, challenger, champion, model, numbers)
            else:
                kind: Literal["rejected", "held"] = "held" if word == "Held" else "rejected"
                cache.models.verdict(
                    kind,
                    challenger,
                    headline,
                    model,
                    by=summary.name,
                    details=numbers,
                    judged_against=numbers["champion"],
                )
            break
        except (MovedMeanwhileError, VerdictError) as error:
            get_run_logger().warning("Judging once more: %s", error)
    get_run_logger().info(headline)
    tell(cache)
    drift = publish_drift(cache, champion)
    standing = "" if found.standing is None else str(found.standing)
    text = decision_markdown(
        decision,
        challenger,
        champion,
        source,
        drift,
        data=found.data,
        standing=standing,
        notices=state.said_of(model),
        is_asked=is_asked,
    )
    if word != found.word:
        text = f"# {headline}\n\n{text.partition(chr(10))[2].lstrip()}"
    return Verdict(word, headline, text)


def publish_decision(headline: str, markdown: str) -> None:
    """Leave a decision in the UI, under the key that all of them have.

    To be called by the flow itself, so that it is listed before what its tasks leave.
    """
    markdown_artifact(markdown, key="digitflow-decision", description=headline)


def _mend(cache: Store, champion: ModelVersion) -> None:
    """Train the champion once more if the store has lost something of it.

    If that cannot be, the verdict may still need nothing of what is lost.
    """
    lost = lost_of(cache, champion)
    if not lost:
        return
    log = get_run_logger()

    def told(found: Recomputed, with_what: str) -> None:
        log.info("%s: %s, with %s", found.record.label, found.verdict, with_what)

    log.warning(
        "%d of the objects that version %d, the champion, is used by are lost or damaged: it is "
        "trained once more, from its records",
        len(lost),
        champion.version,
    )
    try:
        restore_lost(cache, champion, say=told)
    except NotReproducibleError as error:
        log.warning(str(error))
    else:
        log.info("Version %d is whole again, to the last bit", champion.version)


def _is_of_this_run(entry: LedgerEntry, *kinds: str) -> bool:
    return entry.kind in kinds and entry.details.get("flow_run") == flow_run.id is not None


def _settled(
    state: State, model: str, challenger: ModelVersion, rules: Rules, approval: Approval
) -> str | None:
    """Return why there is nothing to judge: what this night trained is known; or None."""
    champion = state.champion(model)
    last = state.last_verdict(model, challenger)
    if champion is not None and judged_alike(champion, challenger):
        return f"Nothing to do: version {champion.version}, the champion, is the same model"
    entry = state.quarantine(challenger)
    if entry is not None:
        return (
            f"Nothing to do: version {challenger.version} is in quarantine {entry.said}; "
            f"{stays(champion)}"
        )
    hold = state.standing(model).hold
    is_known = (
        last is not None
        and last.kind in ("rejected", "held")
        and not _is_of_this_run(last, "rejected", "held")  # killed since, it judges once more
        and last.details.get("champion") == (champion.version if champion else None)
        and last.details.get("rules") == asdict(rules)
        and last.details.get("hold") == (hold.token if hold else None)
        # What was held may be asked about now, or need no answer any more.
        and (last.kind != "held" or last.details.get("approval", "never") == approval.when)
    )
    if last is not None and is_known:
        number = challenger.version
        todo = f". To promote it all the same: digitflow models promote {number}"
        return (
            f"Nothing new: version {challenger.version} was {last.kind} on {last.at[:10]} "
            f"({'by' if last.by_hand else 'run'} {last.by}), and nothing has changed since; "
            f"{stays(champion)}{todo if last.kind == 'held' else ''}"
        )
    return None


def _unchanged(
    cache: Store,
    headline: str,
    champion: ModelVersion,
    source: SourceAnswer,
    *,
    has_champion: bool,
    notices: Sequence[str],
) -> Verdict:
    word: Literal["Unconfirmed", "Unchanged"] = "Unchanged"
    if source.unconfirmed:
        word = "Unconfirmed"
        headline = (
            f"The source does not confirm the data; {stays(champion)}. {headline}"
            if has_champion
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
        notices=notices,
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
    model: str,
    numbers: dict[str, Any],
) -> None:
    cache.models.promote(
        challenger.version,
        _passed(summary, decision),
        model,
        judged_against=None if champion is None else champion.version,
        by=summary.name,
        details=numbers,
    )


def _passed(summary: RunSummary, decision: Decision) -> str:
    before = decision.champion_accuracy
    against = "" if before is None else f" against {before:.4f}"
    return f"{_PASSED} {summary.name}: {decision.challenger_accuracy:.4f}{against}"
