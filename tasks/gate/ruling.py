"""The gate's ruling: what is known already, what a comparison says, and the ledger's entry of it.

Whatever a challenger and a champion are compared by, this is how one takes the other's place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import Logger, LoggerAdapter
from typing import Any, Literal

from prefect.runtime import flow_run

from digitflow.storage.errors import MovedMeanwhileError, VerdictError
from digitflow.storage.history.models import LedgerEntry, ModelVersion, State, judged_alike
from digitflow.storage.store import Store
from digitflow.tasks.gate.approval import Approval
from digitflow.tasks.gate.compare import Comparison
from digitflow.tasks.gate.decision import decision_headline, decision_json, stays
from digitflow.tasks.gate.rules import Decision, Rules
from digitflow.tasks.recomputation.recompute import Recomputed
from digitflow.tasks.recomputation.reproduce import NotReproducibleError, lost_of, restore_lost

PASSED = "passed the gate in run"

Log = Logger | LoggerAdapter[Any]


@dataclass(frozen=True)
class Ruling:
    """How it was ruled.

    Attributes
    ----------
    word, headline
        The verdict, in a word and in a sentence.
    champion
        Who was the champion until then, or is it without a comparison; None if nobody was.
    notices
        What people have said of the named model.
    found
        The comparison; None where there was nothing to compare.
    question
        What a person is asked; None if nobody is.
    """

    word: Literal["Promoted", "Rejected", "Held", "Unchanged"]
    headline: str
    champion: ModelVersion | None
    notices: list[str]
    found: Comparison | None = None
    question: LedgerEntry | None = None


def rule(
    cache: Store,
    challenger: ModelVersion,
    model: str,
    compare: Callable[[ModelVersion | None], Comparison],
    rules: Rules,
    *,
    approval: Approval,
    terms: Mapping[str, Any],
    run: str,
    log: Log,
) -> Ruling:
    """Compare a challenger with the champion, and enter the verdict in the ledger.

    Parameters
    ----------
    cache, challenger, model
        The store, the version, and the named model whose champion it challenges.
    compare
        Compares it with the champion that there is.
    rules
        What the gate requires.
    approval
        When it asks a person.
    terms
        All that the verdict is given by, as JSON values: under the same it is given once.
    run
        Name of the run.
    log
        Told when a champion is made again, or judged once more.

    Raises
    ------
    LedgerError
        If it is not certain which version is the champion.
    """
    champion = cache.models.state().champion(model)
    if champion is not None:
        _mend(cache, champion, log)
    while True:
        state = cache.models.state()
        cache.models.check_certain(state)
        champion = state.champion(model)
        last = state.last_verdict(model, challenger)
        if champion is not None and last is not None and _is_of_this_run(last, "promoted"):
            # The run was killed after it had promoted: it says so again.
            said = state.said_of(model)
            return Ruling("Promoted", str(last.details["headline"]), champion, said)
        if (why := _settled(state, model, challenger, terms, approval)) is not None:
            return Ruling("Unchanged", why, champion, state.said_of(model))
        found = compare(champion)
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
            "run": run,
            "flow_run": flow_run.id,
            "rules": dict(terms),
            "approval": approval.when,
            **({} if hold is None else {"hold": hold.token}),
            **decision_json(decision, rules),
            **found.to_json(),
        }
        passed = _passed(run, decision)
        if is_asked:
            numbers["until"] = approval.until()
            if found.word == "Promoted":
                numbers["passed"] = passed
        try:
            if word == "Promoted":
                cache.models.promote(
                    challenger.version,
                    passed,
                    model,
                    judged_against=None if champion is None else champion.version,
                    by=run,
                    details=numbers,
                )
            else:
                kind: Literal["rejected", "held"] = "held" if word == "Held" else "rejected"
                cache.models.verdict(
                    kind,
                    challenger,
                    headline,
                    model,
                    by=run,
                    details=numbers,
                    judged_against=numbers["champion"],
                )
        except (MovedMeanwhileError, VerdictError) as error:
            log.warning("Judging once more: %s", error)
        else:
            # As it is after this entry, and before any other: a question is among what is said.
            said = state.said_of(model)
            question = state.question(challenger, model)
            return Ruling(word, headline, champion, said, found, question)


def _mend(cache: Store, champion: ModelVersion, log: Log) -> None:
    """Train the champion once more if the store has lost something of it.

    If that cannot be, the verdict may still need nothing of what is lost.
    """
    lost = lost_of(cache, champion)
    if not lost:
        return

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
    state: State,
    model: str,
    challenger: ModelVersion,
    terms: Mapping[str, Any],
    approval: Approval,
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
        and last.details.get("rules") == dict(terms)
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


def _passed(run: str, decision: Decision) -> str:
    before = decision.champion_accuracy
    against = "" if before is None else f" against {before:.4f}"
    return f"{PASSED} {run}: {decision.challenger_accuracy:.4f}{against}"
