"""The gate's decision as people read it: Markdown with every number that led to it."""

from __future__ import annotations

from storage.models import ModelVersion
from tasks.gate import Decision


def headline(decision: Decision, challenger: ModelVersion, champion: ModelVersion | None) -> str:
    """Return the decision in one line."""
    if decision.promoted:
        instead = f", in place of version {champion.version}" if champion is not None else ""
        return f"Version {challenger.version} is the champion{instead}"
    stays = f"version {champion.version} stays the champion" if champion else "there is no champion"
    return f"Version {challenger.version} is rejected; {stays}"


def markdown(decision: Decision, challenger: ModelVersion, champion: ModelVersion | None) -> str:
    """Return the whole decision."""
    lines = [
        f"# {headline(decision, challenger, champion)}",
        "",
        "| demanded | found | met |",
        "|---|---|---|",
    ]
    lines += [
        f"| {check.demand} | {check.found} | {'yes' if check.met else '**no**'} |"
        for check in decision.checks
    ]
    lines += ["", "| | champion | challenger |", "|---|---|---|"]
    before = champion.version if champion is not None else "none"
    lines += [f"| version | {before} | {challenger.version} |"]
    lines += [f"| trained by | {champion.run if champion else '–'} | {challenger.run} |"]
    lines += [
        f"| accuracy on the same test images | {_share(decision.champion_accuracy)} | "
        f"{_share(decision.challenger_accuracy)} |",
        f"| right where the other is wrong | {decision.only_champion_right} | "
        f"{decision.only_challenger_right} |",
    ]
    lines += [
        f"| recall of {name} | {_share(theirs)} | {_share(own)} |"
        for name, theirs, own in decision.recalls
    ]
    if decision.p_value is not None:
        lines += [
            "",
            f"McNemar's exact test: p = {decision.p_value:.3g}. Were both models equally good, a "
            "difference at least as uneven would come about by chance that often.",
        ]
    return "\n".join([*lines, ""])


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
