"""The gate's last verdicts on a named model, and how they went: the ledger's own numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from digitflow.storage.history.models import LedgerEntry, State
from digitflow.storage.store import Store
from digitflow.tasks.gate.decision import Verdict
from digitflow.tasks.reporting.render import render

# From the lowest to the highest, and where there is no number.
BARS, DIGITS = "▁▂▃▄▅▆▇█·", "12345678-"
_SHOWN = 30  # verdicts in an artifact
_FEWEST = 2  # that go anywhere


@dataclass(frozen=True)
class Night:
    """One verdict of the gate, or a person's answer where it asked.

    Attributes
    ----------
    at, run, headline
        When, by which run or person, and why.
    verdict
        Promoted, rejected or held.
    version, champion
        Numbers of the version that was judged, and of the champion that it was held against.
    accuracy, champion_accuracy
        Of both on the same test images.
    """

    at: str
    verdict: str
    run: str
    version: int | None
    accuracy: float | None
    champion: int | None
    champion_accuracy: float | None
    headline: str


def nights(state: State, model: str, last: int) -> list[Night]:
    """Return the last verdicts on a named model, newest first."""
    return [_night(state, entry) for entry in state.standing(model).verdicts[: -last - 1 : -1]]


def _night(state: State, entry: LedgerEntry) -> Night:
    version = state.versions.get(entry.version)
    return Night(
        entry.at,
        entry.kind,
        entry.by,
        None if version is None else version.version,
        entry.details.get("accuracy"),
        entry.details.get("champion"),
        entry.details.get("champion_accuracy"),
        entry.details.get("headline", entry.reason),
    )


def trend(last: Sequence[Night], *, levels: str = BARS) -> list[tuple[str, str, str]]:
    """Return how it went, oldest first: the verdicts, and both accuracies on one scale.

    Parameters
    ----------
    last
        Verdicts, newest first.
    levels
        A sign for each level, and one for no number.

    Returns
    -------
    list of (str, str, str)
        Name, a sign for each verdict, and what they mean; empty where there are too few.
    """
    if len(last) < _FEWEST:
        return []
    ours = [each.accuracy for each in reversed(last)]
    theirs = [each.champion_accuracy for each in reversed(last)]
    known = [each for each in (*ours, *theirs) if each is not None]
    scale = (min(known, default=0.0), max(known, default=0.0))
    kinds = dict.fromkeys(each.verdict for each in reversed(last))
    return [
        (
            "verdicts",
            "".join(each.verdict[0].upper() for each in reversed(last)),
            ", ".join(f"{kind[0].upper()} {kind}" for kind in kinds),
        ),
        ("challenger", _signs(ours, scale, levels), _range(ours)),
        ("champion", _signs(theirs, scale, levels), _range(theirs)),
    ]


def with_trend(cache: Store, verdict: Verdict, model: str) -> Verdict:
    """Return a verdict with the last ones on its model below, itself among them."""
    rows = trend(nights(cache.models.state(), model, _SHOWN))
    text = f"{verdict.markdown.rstrip()}\n\n{render('trend.md', rows=rows)}" if rows else ""
    return replace(verdict, markdown=text or verdict.markdown)


def _signs(values: Sequence[float | None], scale: tuple[float, float], levels: str) -> str:
    lowest, highest = scale
    top = len(levels) - 2
    of_all = (highest - lowest) or 1.0
    return "".join(
        levels[-1] if each is None else levels[round((each - lowest) / of_all * top)]
        for each in values
    )


def _range(values: Sequence[float | None]) -> str:
    known = [each for each in values if each is not None]
    return f"{min(known):.4f} to {max(known):.4f}" if known else "–"
