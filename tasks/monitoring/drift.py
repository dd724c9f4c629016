"""Do the pictures that a model sees still resemble those it was tested on? Pure Python.

Compared is how often each class is predicted, now and on the test set, by the population
stability index (PSI): Σ (now - then) · ln(now / then) over the classes' shares. It is 0 if the
shares are equal and grows without bound as they part. By the usual reading 0.1 is worth a look
and 0.25 a change.

Shares stay as they are where all pictures become worse, so three means are compared as well: how
sure the model is, how bright the pictures are and how much contrast they have; and how many of them
are blank. Each counts only if it differs by more than chance explains for so many pictures.

Sources: N. Siddiqi, "Credit Risk Scorecards", Wiley 2006, chapter 10 (index and thresholds). B.
Yurdakul, "Statistical properties of population stability index", Western Michigan University 2018
(of samples of n and m from one population, it is about (1/n + 1/m) times chi-squared with one
degree of freedom less than there are classes). Confidence as a sign of a shift: D. Hendrycks and
K. Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

WATCH, DRIFTED = 0.1, 0.25

State = Literal["stable", "watch", "drifted", "too few"]
STATES: tuple[State, ...] = ("too few", "stable", "watch", "drifted")  # by what follows from them

# What the index exceeds once in so many samples that have not drifted is not called chance. A year
# has 365 nights, each judged alone and together with those before, by five signs.
_FALSE_ALARMS = 10_000
# Added to each count, so that a class that never came has a share: Jeffreys' prior.
_PSEUDO_COUNT = 0.5
# A mean has moved if it is so many of its standard errors from the test set's (confidences are so
# skewed that 4 would not do for 50 pictures), and by so many of the images' standard deviations.
_STANDARD_ERRORS, _EFFECT = 5.0, 0.5
_WATCHED_ERRORS, _WATCHED_EFFECT = 4.0, 0.25
# Where test images hardly differ in it, as pictures that a program drew.
_LEAST_DEVIATION = {"confidence": 0.02, "brightness": 2.0, "contrast": 2.0}
# So many pictures may be blank, whatever the test set has: what a feed of people's pictures brings.
_BLANK = 0.05
# So many may be unsure, and so many of the test set are at most: thresholds are fitted so.
_UNSURE, _UNSURE_IN_TEST = 0.05, 0.01


@dataclass(frozen=True)
class Distribution:
    """What a model predicted for a set of pictures, and what these look like.

    Attributes
    ----------
    counts
        How often each class, over the pictures that are not blank.
    confidence
        Mean probability of the class that was predicted.
    brightness, contrast
        Mean over the pictures of the mean and of the standard deviation of their pixels, 0 to 255;
        None where that was not recorded.
    blank
        How many pictures had nothing on them.
    deviations
        Standard deviation of each of the three over the pictures, by name; known of a test set.
    confidence_compares
        Whether the confidence is that of the model that it is compared with.
    unsure
        Of how many pictures that are not blank the model said that it does not know; None where it
        could not tell.
    """

    counts: tuple[int, ...]
    confidence: float
    brightness: float | None = None
    contrast: float | None = None
    blank: int = 0
    deviations: tuple[tuple[str, float], ...] = ()
    confidence_compares: bool = True
    unsure: int | None = None

    @property
    def images(self) -> int:
        """How many pictures that were, without blank ones."""
        return sum(self.counts)

    @property
    def shares(self) -> list[float]:
        """The share of each class, 0 to 1."""
        return [count / max(self.images, 1) for count in self.counts]


@dataclass(frozen=True)
class Sign:
    """One number that tells whether pictures have changed.

    Attributes
    ----------
    name
        ``confidence``, ``brightness``, ``contrast``, ``blank`` or ``unsure``.
    then, now
        On the test set, and now; of ``blank`` and ``unsure`` the share.
    state
        What it says by itself.
    """

    name: str
    then: float
    now: float
    state: State


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
        What the index stays below in 9,999 of 10,000 samples of this size that have not drifted.
    signs
        What else was compared.
    state
        The worst of what the index and the signs say. Of the index: ``stable`` below 0.1, ``watch``
        up to 0.25, ``drifted`` from there on; ``too few`` where that is above 0.1, but samples of
        this size may be.
    """

    terms: tuple[float, ...]
    psi: float
    chance: float
    signs: tuple[Sign, ...]
    state: State

    @property
    def reasons(self) -> tuple[Sign, ...]:
        """The signs that say that something has changed, or begins to."""
        return tuple(each for each in self.signs if each.state in ("watch", "drifted"))


def measure(then: Distribution, now: Distribution) -> Drift:
    """Compare what is seen now with what was seen on the test set.

    Raises
    ------
    ValueError
        If the numbers of classes differ, or either has no pictures.
    """
    if len(then.counts) != len(now.counts) or not then.images or not now.images + now.blank:
        message = (
            "expected pictures of the same classes on both sides, found "
            f"{then.images} of {len(then.counts)} and {now.images} of {len(now.counts)} classes"
        )
        raise ValueError(message)
    signs = (*_means(then, now), _blank(then, now), *_unsure(now))
    telling = [each.state for each in signs if each.state != "stable"]
    if not now.images:
        terms: tuple[float, ...] = (0.0,) * len(then.counts)
        return Drift(terms, 0.0, 0.0, signs, _worst("too few", *telling))
    terms = psi_terms(then.counts, now.counts)
    psi = sum(terms)
    quantile = chi_squared_quantile(len(terms) - 1, 1 / _FALSE_ALARMS)
    chance = quantile * (1 / then.images + 1 / now.images)
    state: State = "stable" if psi < WATCH else "watch" if psi < DRIFTED else "drifted"
    if state != "stable" and psi <= chance:
        state = "too few"
    return Drift(terms, psi, chance, signs, _worst(state, *telling))


def psi_terms(then: Sequence[int], now: Sequence[int]) -> tuple[float, ...]:
    """Return each class's part of the population stability index, none below 0.

    A count of 0 would make it infinite, so 0.5 is added to every count on both sides.
    """
    before, after = _smoothed(then), _smoothed(now)
    return tuple((b - a) * math.log(b / a) for a, b in zip(before, after, strict=True))


def pooled(batches: Sequence[Distribution]) -> Distribution:
    """Return several sets of pictures as one.

    What is not known of one of them is not known of all together.
    """
    counts = tuple(sum(each) for each in zip(*(batch.counts for batch in batches), strict=True))
    images = sum(counts)

    def mean(name: str) -> float | None:
        values = [getattr(batch, name) for batch in batches]
        if None in values:
            return None
        total = sum(each * batch.images for each, batch in zip(values, batches, strict=True))
        return total / images if images else 0.0

    return Distribution(
        counts,
        mean("confidence") or 0.0,
        mean("brightness"),
        mean("contrast"),
        sum(batch.blank for batch in batches),
        confidence_compares=all(batch.confidence_compares for batch in batches),
        unsure=_sum([batch.unsure for batch in batches]),
    )


def _sum(counts: Sequence[int | None]) -> int | None:
    known = [each for each in counts if each is not None]
    return sum(known) if len(known) == len(counts) else None


def chi_squared_quantile(degrees: int, exceeded: float) -> float:
    """Return what chi-squared exceeds in a share of samples.

    Source: E. B. Wilson and M. M. Hilferty, "The distribution of chi-square", PNAS 17 (1931);
    within 2 % from 3 degrees of freedom on, down to shares of 0.0001.

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


def _means(then: Distribution, now: Distribution) -> list[Sign]:
    signs = []
    if not now.images:
        return []
    for name, deviation in then.deviations:
        before, after = getattr(then, name), getattr(now, name)
        if before is None or after is None:
            continue
        if name == "confidence" and not now.confidence_compares:
            continue
        spread = max(deviation, _LEAST_DEVIATION[name])
        effect = (after - before) / spread
        errors = effect / math.sqrt(1 / then.images + 1 / now.images)
        # To be surer than on the test set is no sign of worse pictures.
        size = (-effect, -errors) if name == "confidence" else (abs(effect), abs(errors))
        state: State = "stable"
        if size[0] >= _EFFECT and size[1] >= _STANDARD_ERRORS:
            state = "drifted"
        elif size[0] >= _WATCHED_EFFECT and size[1] >= _WATCHED_ERRORS:
            state = "watch"
        signs.append(Sign(name, before, after, state))
    return signs


def _blank(then: Distribution, now: Distribution) -> Sign:
    before = then.blank / (then.images + then.blank)
    pictures = now.images + now.blank
    chance = _at_least(now.blank, pictures, max(before, _BLANK))
    state: State = "drifted" if chance < 1 / _FALSE_ALARMS else "stable"
    return Sign("blank", before, now.blank / pictures, state)


def _unsure(now: Distribution) -> list[Sign]:
    """Judge by how many pictures are unsure; of the test set as many are as the threshold lets."""
    if now.unsure is None or not now.images:
        return []
    chance = _at_least(now.unsure, now.images, _UNSURE)
    state: State = "drifted" if chance < 1 / _FALSE_ALARMS else "stable"
    return [Sign("unsure", _UNSURE_IN_TEST, now.unsure / now.images, state)]


def _at_least(count: int, of: int, share: float) -> float:
    """Return how probable at least so many are, each with a share for its probability.

    The tail of the binomial distribution, bounded above by Chernoff's exp(-n·D); 1 up to the mean.
    Source: H. Chernoff, "A measure of asymptotic efficiency for tests of a hypothesis based on the
    sum of observations", Annals of Mathematical Statistics 23 (1952).
    """
    found = count / of
    if found <= share:
        return 1.0
    divergence = found * math.log(found / share)
    if found < 1:
        divergence += (1 - found) * math.log((1 - found) / (1 - share))
    return math.exp(-of * divergence)


def _worst(*states: State) -> State:
    return max(states, key=STATES.index)


def _smoothed(counts: Sequence[int]) -> list[float]:
    smoothed = [count + _PSEUDO_COUNT for count in counts]
    total = sum(smoothed)
    return [count / total for count in smoothed]
