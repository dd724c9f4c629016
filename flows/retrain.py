"""The flow `digitflow-retrain`: ask the source, train, judge, promote or reject."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.annotations import quote

from digitflow.flows.catch_up import skip_what_was_missed
from digitflow.flows.ending import ended
from digitflow.flows.spec import GATE, RunOptions, with_run_options
from digitflow.flows.title import show
from digitflow.flows.train import run_stages
from digitflow.storage.errors import StorageError
from digitflow.storage.history.models import LedgerEntry, model_name
from digitflow.storage.store import Store
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.gate.answer import wait_for_answer
from digitflow.tasks.gate.approval import Approval, When
from digitflow.tasks.gate.decide import promote_or_reject, publish_decision
from digitflow.tasks.gate.decision import Verdict, failed_markdown, stays
from digitflow.tasks.gate.outbox import tell
from digitflow.tasks.gate.rules import Rules
from digitflow.tasks.gate.source import ask_source
from digitflow.tasks.gate.trend import with_trend
from digitflow.tasks.reporting.results import write_results

# Red in every list of runs, and found by whoever looks for failures: a person should look at it.
_NEEDS_A_PERSON = ("Rejected", "Held", "Unconfirmed")


@flow(
    name="digitflow-retrain",
    log_prints=False,
    persist_result=False,
    result_serializer="json",
)
@partial(with_run_options, extra=GATE, without=("from_stage", "until"))
def retrain(
    options: RunOptions,
    *,
    model: str | None,
    min_improvement: float,
    max_class_drop: float,
    floor: float,
    approval: When,
    approval_hours: float,
) -> State[Any]:
    """Train, and promote the new model if it beats the champion on the same test images."""
    cache = Store()
    cache.connect()
    rules = Rules(min_improvement, max_class_drop, floor)
    with cache.in_use():
        try:
            asks = Approval(approval, approval_hours)
            return _ended(_retrain(cache, options, rules, asks, model))
        except CancelledRun:
            return Cancelled(message="stopped on request; what was finished is cached")


def _retrain(
    cache: Store, options: RunOptions, rules: Rules, asks: Approval, model: str | None
) -> Verdict:
    source: SourceAnswer | None = None
    name = model or ""
    try:
        question = cache.models.state().asked_by(flow_run.id) if flow_run.id else None
        if question is not None:  # this run has been suspended since, or killed
            return _answered(cache, question)
        spec = options.spec()
        name = cache.models.named(model or model_name(spec.dataset.name))
        # Before any work: a decision that could not be written down is none.
        cache.models.ledger.check_writable()
        cache.models.check_certain(cache.models.state())
        cache.models.close_late(flow_run.name or "unnamed")
        tell(cache)
        asked = ask_source.submit(spec.dataset, spec.mirrors, return_state=False)
        source = asked.result()
        summary = run_stages(cache, spec)
        # Quoted: Prefect would draw an edge from every stage that the summary speaks of.
        judged = promote_or_reject.submit(
            quote(summary), rules, asks, asked, name, return_state=False
        )
        verdict: Verdict = judged.result()
    except CancelledRun:
        raise
    except Exception as error:
        _say_that_it_failed(cache, error, source, name)
        raise
    verdict = _with_trend(cache, verdict, name)
    publish_decision(verdict.headline, verdict.markdown)
    # Once more: whatever is wrong with the folder, the decision is made and has been told.
    write_results(cache, replace(summary, decision=verdict.markdown))
    # Only a deployment's run can wait; any other ends, and its question stays open.
    question = verdict.question if deployment.id else None
    tags = [verdict.word.lower()] if question is None else []
    show(summary.name, spec.dataset.name, spec.preset, summary.metrics, tags)
    if question is not None:
        return _answered(cache, question)
    # Last: a run that comes to no verdict leaves the next one its turn.
    skip_what_was_missed()
    return verdict


def _answered(cache: Store, question: LedgerEntry) -> Verdict:
    version = cache.models.state().versions[question.version]
    verdict = _with_trend(cache, wait_for_answer(cache, question), question.model)
    tell(cache)
    publish_decision(verdict.headline, verdict.markdown)
    name = str(question.details["run"])
    show(name, version.dataset, version.preset, version.metrics, [verdict.word.lower()])
    skip_what_was_missed()
    return verdict


def _with_trend(cache: Store, verdict: Verdict, model: str) -> Verdict:
    try:
        return with_trend(cache, verdict, model)
    except StorageError as error:  # the decision is made, and is published without
        get_run_logger().warning("The decision does not show the last verdicts: %s", error)
        return verdict


def _say_that_it_failed(
    cache: Store, error: Exception, source: SourceAnswer | None, model: str
) -> None:
    try:
        state = cache.models.state()
        known = state.with_champions()
        of = {name: f" of {name}" if len(known) > 1 else "" for name in known}
        champion = ", ".join(
            f"{stays(state.champion(name))}{of[name]}" for name in known if model in ("", name)
        )
        champion = champion or "no champion yet"
        if state.lost:
            champion = "which version is the champion is not certain"
    except StorageError as damage:
        champion = str(damage)
    headline = f"No decision: the run failed; {champion}"
    publish_decision(headline, failed_markdown(error, champion, source))


def _ended(verdict: Verdict) -> State[Any]:
    kind = Failed if verdict.word in _NEEDS_A_PERSON else Completed
    return ended(kind(name=verdict.word, message=verdict.headline))
