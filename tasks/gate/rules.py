"""The gate: is a challenger good enough to take the champion's place? Pure NumPy.

Both are judged on the same test images. The challenger must be more accurate by a margin, must not
become much worse at any one class, and must reach a floor. How likely the difference is to be
chance is reported beside the decision (McNemar's test), for people to judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rules:
    """What the gate requires.

    Attributes
    ----------
    min_improvement
        By how much the challenger's accuracy must exceed the champion's, as a share of 1.
    max_class_drop
        By how much the recall of any one class may fall, as a share of 1.
    floor
        Accuracy below which nothing is promoted, not even the first model.
    """

    min_improvement: float
    max_class_drop: float
    floor: float


@dataclass(frozen=True)
class Check:
    """One requirement: what it is, what was found, whether it is met, and the complaint if not."""

    requirement: str
    found: str
    met: bool
    complaint: str


@dataclass(frozen=True)
class Decision:
    """The gate's decision, with every number that led to it.

    Attributes
    ----------
    promoted
        Whether the challenger takes the champion's place.
    checks
        Each requirement and what was found.
    test_images
        Number of images on which both were judged.
    challenger_accuracy, champion_accuracy
        On the same test images; the latter None if there was no champion.
    only_challenger_right, only_champion_right
        Number of images that only one of them got right.
    p_value
        Of McNemar's exact test, two-sided; None if there was no champion.
    recalls
        For each class its name, the champion's recall (or None) and the challenger's.
    """

    promoted: bool
    checks: tuple[Check, ...]
    test_images: int
    challenger_accuracy: float
    champion_accuracy: float | None
    only_challenger_right: int
    only_champion_right: int
    p_value: float | None
    recalls: tuple[tuple[str, float | None, float], ...]


def decide(
    challenger: NDArray[Any],
    champion: NDArray[Any] | None,
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    rules: Rules,
) -> Decision:
    """Judge a challenger against the champion.

    Parameters
    ----------
    challenger, champion : NDArray, shape (n, classes)
        Outputs for the same test images; `champion` None if there is no champion yet.
    labels : NDArray[int], shape (n,)
        True classes.
    class_names : sequence of str
        Name of class 0, 1, …
    rules : Rules
        What is required.

    Raises
    ------
    ValueError
        If there are no test images or the shapes do not fit each other.
    """
    if not len(labels) or len(challenger) != len(labels):
        message = (
            f"expected outputs for each of the test labels, at least one; found "
            f"{len(challenger)} outputs and {len(labels)} labels"
        )
        raise ValueError(message)
    if champion is not None and len(champion) != len(labels):
        message = f"expected {len(labels)} outputs of the champion, found {len(champion)}"
        raise ValueError(message)
    right = challenger.argmax(axis=1) == labels
    accuracy = float(right.mean())
    floor = Check(
        f"accuracy of at least {rules.floor:.4f}",
        f"{accuracy:.4f}",
        accuracy >= rules.floor,
        f"accuracy {accuracy:.4f} is below the floor",
    )
    own = _recalls(right, labels, len(class_names))
    if champion is None:
        alone: tuple[tuple[str, float | None, float], ...] = tuple(
            (name, None, own[i]) for i, name in enumerate(class_names)
        )
        first = Check("no champion yet: the first model that reaches the floor", "first", True, "")
        return Decision(floor.met, (floor, first), len(labels), accuracy, None, 0, 0, None, alone)

    was_right = champion.argmax(axis=1) == labels
    before = float(was_right.mean())
    theirs = _recalls(was_right, labels, len(class_names))
    gained = int((right & ~was_right).sum())
    lost = int((~right & was_right).sum())
    # In whole images, so that no rounding of shares decides.
    needed = rules.min_improvement * len(labels)
    margin = f" by at least {rules.min_improvement:.4f}" if rules.min_improvement else ""
    improvement = Check(
        f"more accurate than the champion{margin}",
        f"{accuracy - before:+.4f} ({gained} gained, {lost} lost)",
        gained - lost >= needed - 1e-9 and gained > lost,
        f"not more accurate than the champion{margin} ({accuracy - before:+.4f})",
    )
    falls = [(theirs[i] - own[i], name) for i, name in enumerate(class_names)]
    fall, worst = max(falls, default=(0.0, "none"))
    steady = Check(
        f"no class's recall falls by more than {rules.max_class_drop:.4f}",
        f"largest fall {max(fall, 0.0):.4f}, class {worst}" if fall > 0 else "none falls",
        fall <= rules.max_class_drop + 1e-9,
        f"recall of {worst} falls by {fall:.4f}",
    )
    checks = (floor, improvement, steady)
    recalls = tuple((name, theirs[i], own[i]) for i, name in enumerate(class_names))
    return Decision(
        all(check.met for check in checks),
        checks,
        len(labels),
        accuracy,
        before,
        gained,
        lost,
        mcnemar(gained, lost),
        recalls,
    )


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Under the hypothesis that both models are equally good, each image that only one of them got
    right is a fair coin. The p-value is the chance of a split at least as uneven as the one found.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12 (1947); exact form by the binomial distribution.

    Parameters
    ----------
    gained, lost : int
        Images that only the one, and only the other model got right.
    """
    disagreements = gained + lost
    if not disagreements:
        return 1.0
    term, total = 1, 0  # binomial coefficients, in whole numbers: exact however many there are
    for count in range(min(gained, lost) + 1):
        total += term
        term = term * (disagreements - count) // (count + 1)
    # Both tails; 2 · total / 2**n as a float, however large the whole numbers are.
    exponent = total.bit_length() - 60
    mantissa = total >> exponent if exponent > 0 else total
    return min(1.0, math.ldexp(float(mantissa), 1 - disagreements + max(exponent, 0)))


def _recalls(
    right: NDArray[np.bool_], labels: NDArray[np.integer[Any]], classes: int
) -> list[float]:
    """Return the share of right answers for each class; 0 for one without images."""
    images = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    shares = np.divide(hits, images, out=np.zeros(classes), where=images > 0)
    return [float(share) for share in shares]
