"""`gate`: the last call of a flow of one's own, by which a better model becomes the champion."""

from __future__ import annotations

import logging
from typing import Any

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.utilities.annotations import quote

from digitflow.flows.ending import ended
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Ref, StageResult, current
from digitflow.tasks.engine.plan import NotCachedError, look_up
from digitflow.tasks.engine.step import step
from digitflow.tasks.gate.decide import publish_decision
from digitflow.tasks.gate.decision import Verdict
from digitflow.tasks.gate.outbox import tell
from digitflow.tasks.gate.rules import Rules
from digitflow.tasks.gate.scores import Candidate, judge

_log = logging.getLogger(__name__)


def gate(
    model: Ref,
    scores: Ref,
    *,
    name: str,
    metric: str,
    floor: float,
    min_improvement: float = 0.0,
) -> State[Any]:
    """Judge a model against the champion by scores of one's own, and record the verdict.

    The rule is that of ``digitflow retrain``: the mean score must exceed the champion's, on the
    same test rows, by more than one standard error of the difference, row by row, and reach
    `floor`. What the ledger says of the model is shown, undone and overruled by the same commands.
    The stage that gave the scores is called for the champion, too, so it must take the model as one
    of its inputs, and the test rows as the others.

    In a flow the decision is an artifact of the run, and automations are told. In a script it goes
    into the ledger alone; under `plan` nothing is judged.

    Parameters
    ----------
    model
        The model: an output of the stage that trained it, such as ``trained["model"]``.
    scores
        A vector of numbers, one for each test row, of which more is better: an output of a stage.
    name
        Of the named model, of lower-case letters, digits, dots, dashes and underscores.
    metric
        What the mean score is called.
    floor
        The mean score below which nothing is promoted, not even the first model.
    min_improvement
        By how much the mean score must exceed the champion's at least.

    Returns
    -------
    State
        For the flow to return: *Promoted* or *Unchanged*, or, failed, *Rejected* or *Held*.

    Raises
    ------
    ValueError
        If the scores are not one finite number a row, or not of such a stage.
    LedgerError
        If the store cannot keep a ledger, or it is not certain which version is the champion.
    """
    context = current()
    if context.execute is look_up:
        message = f"whether {name} changes its champion is known when it is judged"
        raise NotCachedError(message)
    cache = context.store
    # Before any work: a name that is none, and a decision that could not be written down.
    cache.models.named(name)
    cache.models.ledger.check_writable()
    candidate = Candidate(_result(model), model.output, _result(scores), scores.output, metric)
    rules = Rules(min_improvement, 1.0, floor)
    if flow_run.id is None:
        verdict = judge(cache, candidate, name, rules, run=context.run, log=_log)
    else:
        asked = _judged.submit(quote(candidate), name, rules, context.run, return_state=False)
        verdict = asked.result()
        publish_decision(verdict.headline, verdict.markdown)
    kind = Completed if verdict.word in ("Promoted", "Unchanged") else Failed
    state: State[Any] = kind(name=verdict.word, message=verdict.headline)
    return state if flow_run.id is None else ended(state)


@step("gate", "Compare the new model with the champion, promote or reject it, and say why.")
def _judged(candidate: Candidate, name: str, rules: Rules, run: str) -> Verdict:
    cache = Store()
    tell(cache)
    verdict = judge(cache, candidate, name, rules, run=run, log=get_run_logger())
    tell(cache)
    return verdict


def _result(ref: Ref) -> StageResult:
    found = ref.source if isinstance(ref.source, StageResult) else ref.source.result()
    if not isinstance(found, StageResult):
        message = f"expected an output of a stage, found one of {type(found).__name__}"
        raise TypeError(message)
    return found
