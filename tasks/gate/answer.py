"""A person in the loop: the gate asks, the run is suspended, and the ledger has the answer.

What the gate asks is an entry of the ledger that promotes nothing. So a server that is away, a
killed run and an answer that never comes all leave the champion where it is. A person answers in
the form on the run's page, or with `digitflow models approve` or `reject`; who is first has
answered.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput, keyset_from_base_key, read_flow_run_input
from prefect.runtime import flow_run
from pydantic import Field

from digitflow.storage.errors import (
    AnsweredError,
    ObjectDamagedError,
    ObjectMissingError,
    VerdictError,
)
from digitflow.storage.history.models import LedgerEntry
from digitflow.storage.store import Store
from digitflow.tasks.gate.decision import Verdict
from digitflow.tasks.reporting.render import render

_Text = Annotated[str, Field(min_length=1, max_length=2_000)]


class Answer(RunInput):
    """What a person says in the form."""

    verdict: Literal["promote", "reject"] = Field(description="Is it to be the champion?")
    reason: _Text = Field(description="For the history.")
    name: _Text = Field(description="Who you are, for the history.")


def wait_for_answer(cache: Store, question: LedgerEntry) -> Verdict:
    """Suspend the run until a person has answered its question; return how it ends.

    To be called by the flow of a deployment's run itself, each time that it starts.

    Raises
    ------
    prefect.exceptions.Pause
        If nobody has answered yet: the run's process ends, and the next one comes here again.
    """
    # The server takes no late answer: one that it has came in time, however late this run is.
    given = _given(question)
    if given is None:
        left = datetime.fromisoformat(question.until) - datetime.now(UTC)
        if left <= timedelta(0):
            cache.models.close_late(str(question.details["run"]))
        elif cache.models.state().is_open(question):
            # Whatever became of the run that judged: its artifact may never have been left.
            text = render("question.md", question=question.details)
            given = suspend_flow_run(
                wait_for_input=Answer.with_initial_data(description=text),
                timeout=int(left.total_seconds()) + 1,
                key=question.token,  # so that a process that begins again asks nothing twice
            )
    refused = "" if given is None else _note(cache, question, given)
    return _verdict(cache, question, refused)


def _given(question: LedgerEntry) -> Answer | None:
    """Return what a person has answered in the form before this process began, or None."""
    if flow_run.id is None:
        return None
    key = keyset_from_base_key(f"suspended-{question.token}")["response"]
    given: Any = read_flow_run_input(key, flow_run_id=UUID(flow_run.id))
    return None if given is None else Answer(**given)


def let_end(question: LedgerEntry, answer: LedgerEntry) -> None:
    """Resume the run that waits for an answer which the ledger has.

    Where there is none, as on another server, that is no fault: nothing depends on it.
    """
    verdict = "promote" if answer.kind == "promoted" else "reject"
    given = {"verdict": verdict, "reason": answer.reason, "name": answer.by}
    with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
        client.resume_flow_run(UUID(str(question.details["flow_run"])), run_input=given)


def _note(cache: Store, question: LedgerEntry, given: Answer) -> str:
    """Write an answer down; return why it was not to be, if it was not."""
    kind: Literal["promoted", "rejected"]
    kind = "promoted" if given.verdict == "promote" else "rejected"
    by = f"{given.name} in the Prefect UI"
    try:
        cache.models.answer(question, kind, given.reason, by=by, in_time=True)
    except AnsweredError as first:
        get_run_logger().info("Not needed: %s", first)
    except (VerdictError, ObjectMissingError, ObjectDamagedError) as why:
        return str(why)
    return ""


def _verdict(cache: Store, question: LedgerEntry, refused: str) -> Verdict:
    state = cache.models.state()
    answer = state.answer(question)
    asked = str(question.details["headline"])
    headline = asked if answer is None else str(answer.details["headline"])
    if refused:
        headline = f"{asked}. It was not promoted: {refused}"
    elif answer is None and (why := state.why_idle(question)):
        headline = f"{asked}. That needs no answer any more: {why}"
    words: dict[str, Literal["Promoted", "Rejected", "Held"]]
    words = {"promoted": "Promoted", "rejected": "Rejected"}
    word = words.get("" if answer is None else answer.kind, "Held")
    text = render(
        "answered.md", headline=headline, asked=asked, notices=state.said_of(question.model)
    )
    return Verdict(word, headline, text)
