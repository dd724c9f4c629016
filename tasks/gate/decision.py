"""The gate's decision as people read it: Markdown with every number that led to it."""

from __future__ import annotations

from typing import Any

from digitflow.storage.models import ModelVersion
from digitflow.tasks.data.download.source_check import SourceAnswer
from digitflow.tasks.gate.rules import Decision, Rules


def headline(decision: Decision, challenger: ModelVersion, champion: ModelVersion | None) -> str:
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


def markdown(
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    source: SourceAnswer,
) -> str:
    """Return the whole decision: the demands first, then both models, then the source."""
    lines = [
        f"# {_title(decision, challenger, champion)}",
        "",
        "| demanded | found | met |",
        "|---|---|---|",
    ]
    lines += [
        f"| {check.demand} | {check.found} | {'yes' if check.met else '**no**'} |"
        for check in decision.checks
    ]
    if decision.p_value is not None:
        lines += [
            "",
            f"McNemar's exact test: p = {decision.p_value:.3g}. Were both models equally good, a "
            "difference at least as uneven would come about by chance that often. It is reported "
            "and does not decide.",
        ]
    lines += ["", *_both_models(decision, challenger, champion), "", *_source(source), ""]
    if decision.promoted:
        way = "To go back: `digitflow models rollback`."
    else:
        way = f"To promote it all the same: `digitflow models promote {challenger.version}`."
    return "\n".join([*lines, way, ""])


def nothing_to_do(said: str, champion: ModelVersion, source: SourceAnswer) -> str:
    """Return the decision of a run that trained what is the champion already."""
    lines = [f"# {said}", "", f"It was trained by {champion.run} at {champion.created}.", ""]
    return "\n".join([*lines, *_source(source), ""])


def failed(error: BaseException, stays: str, source: SourceAnswer | None) -> str:
    """Return what there is to say where a run failed before it came to a decision."""
    reason = [f"    {line}" for line in f"{type(error).__name__}: {error}".splitlines()]
    lines = [
        "# No decision: the run failed",
        "",
        f"{stays[0].upper()}{stays[1:]}.",
        "",
        *reason,
        "",
    ]
    return "\n".join([*lines, *(_source(source) if source is not None else []), ""])


def numbers(decision: Decision, rules: Rules) -> dict[str, Any]:
    """Return what led to the decision as JSON values, for whoever is notified."""
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
        "unmet": [check.demand for check in decision.checks if not check.met],
        "recalls": {
            name: {"champion": theirs, "challenger": own} for name, theirs, own in decision.recalls
        },
    }


def _both_models(
    decision: Decision, challenger: ModelVersion, champion: ModelVersion | None
) -> list[str]:
    lines = [
        f"## Both models on the same {decision.test_images:,} test images",
        "",
        "| | champion | challenger | difference |",
        "|---|---:|---:|---:|",
        f"| version | {champion.version if champion else 'none'} | {challenger.version} | |",
        f"| trained by | {champion.run if champion else '–'} | {challenger.run} | |",
        f"| dataset | {champion.dataset if champion else '–'} | {challenger.dataset} | |",
        f"| preset | {champion.preset if champion else '–'} | {challenger.preset} | |",
        _row("accuracy", decision.champion_accuracy, decision.challenger_accuracy),
    ]
    if champion is not None:
        lost, gained = decision.only_champion_right, decision.only_challenger_right
        lines.append(f"| right where the other is wrong | {lost} | {gained} | {gained - lost:+d} |")
    return lines + [
        _row(f"recall of {name}", theirs, own) for name, theirs, own in decision.recalls
    ]


def _row(what: str, before: float | None, now: float) -> str:
    if before is None:
        return f"| {what} | – | {now:.4f} | |"
    return f"| {what} | {before:.4f} | {now:.4f} | {now - before:+.4f} |"


def _source(source: SourceAnswer) -> list[str]:
    title = "## Has the data changed?"
    if not source.files:
        return [title, "", "It is drawn here, from a seed: it cannot."]
    said = (
        "Not known, or not what the dataset promises: see below. What was trained on are the bytes "
        "that the dataset names, and no others."
        if source.unconfirmed
        else f"Yes: {', '.join(source.changed)}."
        if source.changed
        else "No."
        if all(file.verdict == "unchanged" for file in source.files)
        else "The source was asked for the first time."
    )
    lines = [title, "", said, "", "| file | answer | how that is known |", "|---|---|---|"]
    return lines + [
        f"| {file.name} | {file.verdict} | "
        f"{f'{file.mirror}: {file.how}' if file.mirror else file.how} |"
        for file in source.files
    ]
