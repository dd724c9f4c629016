"""An audit of the cache: a sample of its records, computed once more and compared."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from digitflow.storage.digests import digest_json
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.tasks.recomputation.recompute import (
    CANNOT,
    DIFFERENT,
    SAME,
    Recomputed,
    Records,
    recompute,
)

SAMPLE = "5%"


class SampleError(ValueError):
    """A sample was asked for in a form that is none."""


def share_of(text: str) -> float:
    """Return a share such as ``5%`` as a number from 0 to 1.

    Raises
    ------
    SampleError
        If it is no percentage, or none above 0 and up to 100.
    """
    found = re.fullmatch(r"(\d{1,3}(?:\.\d+)?) ?%", text.strip())
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share <= 1:
        message = f"sample: expected a percentage such as 5% or 100%, found {text!r}"
        raise SampleError(message)
    return share


def chosen(records: Iterable[Record], share: float, seed: int) -> list[Record]:
    """Return every accepted record, then a share of the others, at least one of them.

    Who is among them, and the order, follow from the keys and the seed alone.
    """
    drawn = sorted(records, key=lambda record: digest_json([record.key, seed]))
    accepted = [record for record in drawn if record.accepted is not None]
    others = [record for record in drawn if record.accepted is None]
    return [*accepted, *others[: math.ceil(share * len(others))]]


def audit(
    store: Store,
    *,
    share: float,
    seed: int = 0,
    stage: str | None = None,
    say: Callable[[Recomputed | None, int, int], None] = lambda found, done, total: None,
) -> list[Recomputed]:
    """Compute a sample of a store's records once more, each in a clean process.

    Parameters
    ----------
    store
        The store; only read.
    share
        Which share of the records, above 0 and up to 1.
    seed
        Another one chooses other records.
    stage
        Only records of this stage.
    say
        Told what came of each, and how many are done of how many; at first of none.

    Raises
    ------
    UnknownNameError
        If the stage has no records.
    """
    records = Records(store)
    candidates = [each for each in records.by_key.values() if stage in (None, each.stage)]
    if stage is not None and not candidates:
        known = ", ".join(sorted({each.stage for each in records.by_key.values()})) or "none"
        message = f"expected a stage with records ({known}), found {stage!r}"
        raise UnknownNameError(message)
    sample = chosen(candidates, share, seed)
    found: list[Recomputed] = []
    say(None, 0, len(sample))
    for record in sample:
        with TemporaryDirectory(prefix="digitflow-audit-") as folder:
            found.append(recompute(record, store, records, Path(folder)))
        say(found[-1], len(found), len(sample))
    return found


def headline(found: Sequence[Recomputed]) -> str:
    """Say in a sentence what came of an audit."""
    count = Counter(each.verdict for each in found)
    reasons = Counter(each.why for each in found if each.verdict == CANNOT)
    why = "; ".join(f"{number} because {reason}" for reason, number in reasons.most_common())
    text = f"{count[SAME] + count[DIFFERENT]} of {len(found)} computed again: "
    text += f"{count[SAME]} same, {count[DIFFERENT]} different"
    return f"{text}; {count[CANNOT]} cannot be audited: {why}" if why else text


def is_red(found: Sequence[Recomputed]) -> bool:
    """Tell whether an audit found a difference."""
    return any(each.verdict == DIFFERENT for each in found)
