"""The gate's decision as people read it: a line, Markdown with every number, and JSON."""

from __future__ import annotations

from typing import Any

from digitflow.storage.models import ModelVersion
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.gate.rules import Decision, Rules
from digitflow.tasks.reporting.render import render


def decision_headline(
    decision: Decision, challenger: ModelVersion, champion: ModelVersion | None
) -> str:
    """Return the decision in one line, with the reasons for a rejection."""
    complaints = [check.complaint for check in decision.checks if not check.met]
    reasons = f": {', '.join(complaints)}" if complaints else ""
    return _title(decision, challenger, champion) + reasons


def _title(decision: Decision, challenger: ModelVersion, champion: ModelVersion | None) -> str:
    if decision.promoted:
        instead = f", in place of version {champion.version}" if champion is not None else ""
        return f"Version {challenger.version} is the champion{instead}"
    stays = f"version {champion.version} stays the champion" if champion else "there is no champion"
    return f"Version {challenger.version} is rejected; {stays}"


def decision_markdown(
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    source: SourceAnswer,
    drift: str = "",
) -> str:
    """Return the whole decision: the requirements first, then both models, then the source.

    Parameters
    ----------
    decision
        What the rules say.
    challenger, champion
        The two models; None if there is no champion yet.
    source
        What the data's source answered.
    drift
        A line on whether the champion still sees what it was tested on; empty for none.
    """
    scores = [("accuracy", decision.champion_accuracy, decision.challenger_accuracy)]
    scores += [(f"recall of {name}", theirs, own) for name, theirs, own in decision.recalls]
    return render(
        "decision.md",
        title=_title(decision, challenger, champion),
        decision=decision,
        challenger=challenger,
        champion=champion,
        scores=scores,
        source=source,
        drift=drift,
    )


def unchanged_markdown(
    headline: str, champion: ModelVersion, source: SourceAnswer, drift: str = ""
) -> str:
    """Return the decision about a run that trained what is the champion already."""
    return render("unchanged.md", headline=headline, champion=champion, source=source, drift=drift)


def failed_markdown(error: BaseException, stays: str, source: SourceAnswer | None) -> str:
    """Return what there is to say about a run that failed before it came to a decision."""
    said = f"{type(error).__name__}: {error}"
    return render("failed.md", error=said, stays=stays, source=source)


def decision_json(decision: Decision, rules: Rules) -> dict[str, Any]:
    """Return what led to the decision as JSON values, for notifications."""
    return {
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
