"""The gate's decision as people read it: a line, Markdown with every number, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from digitflow.storage.history.models import LedgerEntry, ModelVersion
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.gate.data import DataCheck
from digitflow.tasks.gate.rules import Check, Decision, Rules
from digitflow.tasks.reporting.render import render


@dataclass(frozen=True)
class Verdict:
    """How a retraining ended: in a word for the run's state, in a sentence, and at length.

    And what a person is asked with it; None if nobody is.
    """

    word: Literal["Promoted", "Rejected", "Held", "Unchanged", "Unconfirmed"]
    headline: str
    markdown: str
    question: LedgerEntry | None = None


def decision_headline(
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    doubts: Sequence[DataCheck] = (),
) -> str:
    """Return the decision in one line, with the reasons for a rejection or a hold."""
    unmet: Sequence[Check] = doubts or [check for check in decision.checks if not check.met]
    reasons = f": {', '.join(check.complaint for check in unmet)}" if unmet else ""
    return _title(decision, challenger, champion, doubts) + reasons


def _title(
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    doubts: Sequence[DataCheck],
) -> str:
    if doubts:
        # What is wrong with the test data is said first: by it everything else is judged.
        about = {check.subject for check in doubts}
        what = "test data" if "test data" in about else "training data"
        happened = "changed" if champion else "in doubt"
        waits = f"version {challenger.version} waits for a person, {stays(champion)}"
        return f"Held: {what} {happened}; {waits}"
    if decision.promoted:
        instead = f", in place of version {champion.version}" if champion is not None else ""
        return f"Version {challenger.version} is the champion{instead}"
    return f"Version {challenger.version} is rejected; {stays(champion)}"


def stays(champion: ModelVersion | None) -> str:
    """Return who is the champion where nobody has taken its place."""
    return f"version {champion.version} stays the champion" if champion else "there is no champion"


def decision_markdown(
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    source: SourceAnswer | None = None,
    drift: str = "",
    *,
    data: Sequence[DataCheck] = (),
    standing: str = "",
    notices: Sequence[str] = (),
    is_asked: bool = False,
) -> str:
    """Return the whole decision: the requirements first, then both models, then the source.

    Parameters
    ----------
    decision
        What the rules say.
    challenger, champion
        The two models; None if there is no champion yet.
    source
        What the data's source answered; None for a flow that asks none.
    drift
        A line on whether the champion still sees what it was tested on; empty for none.
    data
        The requirements on the data.
    standing
        What is known of the accuracy of the one that is the champion now; empty for nothing.
    notices
        What people have said of the named model: holds and quarantines.
    is_asked
        Whether a person is asked for the verdict.
    """
    doubts = [check for check in data if not check.met]
    scores = [(decision.metric, decision.champion_accuracy, decision.challenger_accuracy)]
    scores += [(f"recall of {name}", theirs, own) for name, theirs, own in decision.recalls]
    return render(
        "decision.md",
        title=_title(decision, challenger, champion, doubts),
        doubts=doubts,
        data=data,
        standing=standing,
        notices=notices,
        decision=decision,
        challenger=challenger,
        champion=champion,
        scores=scores,
        is_asked=is_asked,
        source=source,
        drift=drift,
    )


def unchanged_markdown(
    headline: str,
    champion: ModelVersion,
    source: SourceAnswer | None = None,
    drift: str = "",
    *,
    standing: str = "",
    notices: Sequence[str] = (),
) -> str:
    """Return the decision about a run that trained what is the champion already."""
    return render(
        "unchanged.md",
        headline=headline,
        champion=champion,
        source=source,
        drift=drift,
        standing=standing,
        notices=notices,
    )


def failed_markdown(error: BaseException, stays: str, source: SourceAnswer | None) -> str:
    """Return what there is to say about a run that failed before it came to a decision."""
    said = f"{type(error).__name__}: {error}"
    return render("failed.md", error=said, stays=stays, source=source)


def decision_json(decision: Decision, rules: Rules) -> dict[str, Any]:
    """Return what led to the decision as JSON values, for notifications."""
    return {
        "metric": decision.metric,
        "accuracy": decision.challenger_accuracy,
        "champion_accuracy": decision.champion_accuracy,
        "test_images": decision.test_images,
        "gained": decision.only_challenger_right,
        "lost": decision.only_champion_right,
        "p_value": decision.p_value,
        "min_improvement": rules.min_improvement,
        "max_class_drop": rules.max_class_drop,
        "floor": rules.floor,
        "unmet": [check.requirement for check in decision.checks if not check.met],
        "recalls": {
            name: {"champion": theirs, "challenger": own} for name, theirs, own in decision.recalls
        },
    }
