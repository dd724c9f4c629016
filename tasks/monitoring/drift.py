"""Do the pictures that a model sees still resemble those it was tested on? Pure Python.

Compared is how often each class is predicted, now and on the test set, by the population
stability index (PSI): Σ (now - then) · ln(now / then) over the classes' shares. It is 0 if the
shares are equal and grows without bound as they part. By the usual reading 0.1 is worth a look
and 0.25 a change.

Sources: N. Siddiqi, "Credit Risk Scorecards", Wiley 2006, chapter 10 (index and thresholds). B.
Yurdakul, "Statistical properties of population stability index", Western Michigan University 2018
(of samples of n and m from one population, it is about (1/n + 1/m) times chi-squared with one
degree of freedom less than there are classes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

WATCH, DRIFTED = 0.1, 0.25

State = Literal["stable", "watch", "drifted", "too few"]

# One in 20 samples that have not drifted may exceed what is called chance.
_FALSE_ALARMS = 20
# Added to each count, so that a class that never came has a share: Jeffreys' prior.
_PSEUDO_COUNT = 0.5


@dataclass(frozen=True)
class Distribution:
    """What a model predicted for a set of pictures.

    Attributes
    ----------
    counts
        How often each class.
    confidence
        Mean probability of the class that was predicted.
    """

    counts: tuple[int, ...]
    confidence: float

    @property
    def images(self) -> int:
        """How many pictures that were."""
        return sum(self.counts)

    @property
    def shares(self) -> list[float]:
        """The share of each class, 0 to 1."""
        return [count / self.images for count in self.counts]


@dataclass(frozen=True)
class Drift:
    """How far what is seen now is from what was seen in the test.

    Attributes
    ----------
    terms
        Each class's part of the index.
    psi
        The index, their sum.
    chance
        What the index stays below in 19 of 20 samples of this size that have not drifted.
    state
        ``stable`` below 0.1, ``watch`` up to 0.25, ``drifted`` from there on; ``too few`` where
        that is above 0.1, but samples of this size often are.
    """

    terms: tuple[float, ...]
    psi: float
    chance: float
    state: State


def measure(then: Distribution, now: Distribution) -> Drift:
    """Compare what is predicted now with what was predicted on the test set.

    Raises
    ------
    ValueError
        If the numbers of classes differ, or either has no pictures.
    """
    if len(then.counts) != len(now.counts) or not then.images or not now.images:
        message = (
            "expected pictures of the same classes on both sides, found "
            f"{then.images} of {len(then.counts)} and {now.images} of {len(now.counts)} classes"
        )
        raise ValueError(message)
    terms = psi_terms(then.counts, now.counts)
    psi = sum(terms)
    chance = chi_squared_quantile(len(terms) - 1, 1 / _FALSE_ALARMS) * (
        1 / then.images + 1 / now.images
    )
    state: State = "stable" if psi < WATCH else "watch" if psi < DRIFTED else "drifted"
    return Drift(terms, psi, chance, "too few" if state != "stable" and psi <= chance else state)


def psi_terms(then: Sequence[int], now: Sequence[int]) -> tuple[float, ...]:
    """Return each class's part of the population stability index, none below 0.

    A count of 0 would make it infinite, so 0.5 is added to every count on both sides.
    """
    before, after = _smoothed(then), _smoothed(now)
    return tuple((b - a) * math.log(b / a) for a, b in zip(before, after, strict=True))


def pooled(batches: Sequence[Distribution]) -> Distribution:
    """Return several sets of pictures as one."""
    counts = tuple(sum(each) for each in zip(*(batch.counts for batch in batches), strict=True))
    images = sum(counts)
    total = sum(batch.confidence * batch.images for batch in batches)
    return Distribution(counts, total / images if images else 0.0)


def _smoothed(counts: Sequence[int]) -> list[float]:
    smoothed = [count + _PSEUDO_COUNT for count in counts]
    total = sum(smoothed)
    return [count / total for count in smoothed]


def chi_squared_quantile(degrees: int, exceeded: float) -> float:
    """Return what chi-squared exceeds in a share of samples.

    Source: E. B. Wilson and M. M. Hilferty, "The distribution of chi-square", PNAS 17 (1931);
    within 3 % from 3 degrees of freedom on, down to shares of 0.0001.

    Parameters
    ----------
    degrees : int
        Of freedom; without any it is 0.
    exceeded : float
        Between 0 and 1.
    """
    if degrees < 1:
        return 0.0
    z = NormalDist().inv_cdf(1 - exceeded)
    variance = 2 / (9 * degrees)
    return degrees * (1 - variance + z * math.sqrt(variance)) ** 3
