"""The gate for data, before the one for models: is this still what the champion was made from?

A model is judged by test images that come from the same feed as what it learnt from. When the feed
goes wrong on both sides, no comparison of models can see it. So what the data looks like is
compared with what the champion was trained and tested on, each number with a bound. Doubt promotes
nothing: a person looks. Pure Python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from digitflow.tasks.data.measures import (
    MOST_BLANK,
    MOST_REPEATED,
    MOST_SHARED,
    Agreement,
    Measures,
    Part,
    Spread,
)
from digitflow.tasks.gate.rules import Check
from digitflow.tasks.monitoring.drift import DRIFTED, chi_squared_quantile, psi_terms

Subject = Literal["training data", "test data"]

# Fewer test images tell an accuracy of 0.9 from one of 0.8 in hardly more than half of all cases.
LEAST_TEST_IMAGES = 100
# Repetitions among training images count a class's image twice, and spoil no verdict.
_MOST_REPEATED_TRAINING = 0.05
# Of the images that are in both: so many labels may have been corrected.
_RELABELLED = 0.005
# How far the mean of what images look like may move: in standard deviations over the champion's
# images, and at least in pixels, or in levels of 255.
_MOVED, _LEAST_MOVED = 0.5, {"row": 0.5, "column": 0.5, "brightness": 2.0, "contrast": 2.0}
_MEANINGS = {
    "row": "the ink's vertical centre",
    "column": "the ink's horizontal centre",
    "brightness": "the brightness",
    "contrast": "the contrast",
}
# What chance does once in 10,000 times is not called chance: a night has a dozen such checks.
_CHANCE = 1e-4
_STANDARD_ERRORS = NormalDist().inv_cdf(1 - _CHANCE / 2)
_ONCE_IN_1000 = NormalDist().inv_cdf(1 - 1 / 1000)


@dataclass(frozen=True)
class DataCheck(Check):
    """One requirement on the data, and which part of the data it is about."""

    subject: Subject


def judge_data(
    now: Measures,
    then: Measures | None,
    agreement: Agreement | None,
    class_names: Sequence[str],
) -> tuple[DataCheck, ...]:
    """Compare a dataset with the champion's.

    Parameters
    ----------
    now
        What a challenger was trained and tested on.
    then
        What the champion was; None if there is no champion yet, or it is not known.
    agreement
        How the images that both have are labelled; None if that is not known.
    class_names : sequence of str
        Name of class 0, 1, …

    Returns
    -------
    tuple[DataCheck, ...]
        Each requirement, what was found, and whether it is met.
    """
    checks = [_enough(now.test, None if then is None else then.test), _shared(now, then)]
    parts: tuple[tuple[Subject, Part, Part | None], ...] = (
        ("training data", now.training, None if then is None else then.training),
        ("test data", now.test, None if then is None else then.test),
    )
    for subject, part, before in parts:
        checks += [_repeated(subject, part, before), _blank(subject, part, before)]
        if before is not None:
            checks.append(_classes(subject, part, before, class_names))
            checks += _looks(subject, part, before)
    if agreement is not None:
        checks += _labels(agreement)
    return tuple(checks)


def champion_holds(right: int, images: int, right_then: int, images_then: int) -> DataCheck:
    """Require that the champion is no worse on new test images than on its own.

    A fall that chance does not explain says that the images, or their labels, are others.

    Parameters
    ----------
    right, images : int
        How many of the new test images the champion gets right, and how many there are, at least 1.
    right_then, images_then : int
        The same of the test images that it was promoted by.
    """
    share, before = right / images, right_then / images_then
    allowed = _by_chance(right, images, right_then, images_then)
    return DataCheck(
        "the champion is as accurate on new test images as on its own, but for chance",
        f"{share:.4f} on {images:,} new ones, {before:.4f} on its own {images_then:,} "
        f"(chance explains a fall of {allowed:.4f})",
        share >= before - allowed,
        f"the champion's accuracy falls from {before:.4f} on its own test images to {share:.4f} on "
        f"{images:,} new ones",
        "test data",
    )


def level_holds(right: int, images: int, best_right: int, best_images: int) -> DataCheck:
    """Require that the better of both models is no worse than the best that was promoted before.

    Nights on which the data gets worse by less than chance explains add up: each champion is only
    compared with the one before, on test images that have got worse as well. So they are also
    compared with the best of the champions that led here, on the test images of its day.

    Parameters
    ----------
    right, images : int
        How many of tonight's test images the better of challenger and champion gets right, and how
        many there are.
    best_right, best_images : int
        The same of the best champion before, on its own.
    """
    share, best = right / images, best_right / best_images
    allowed = _by_chance(right, images, best_right, best_images)
    return DataCheck(
        "as accurate as the best champion so far on its own test images, but for chance",
        f"{share:.4f} on {images:,} test images, {best:.4f} then (chance explains a fall of "
        f"{allowed:.4f})",
        share >= best - allowed,
        f"accuracy {share:.4f}, where an earlier champion had {best:.4f} on the test images of its "
        "day: the data has got worse step by step",
        "test data",
    )


def _by_chance(right: int, images: int, right_then: int, images_then: int) -> float:
    """Return by how much a share may fall in two samples alike, but for about one in 1,000.

    The two are pooled, and one success and one failure added, for shares near 0 and 1 (Agresti and
    Caffo, "Simple and effective confidence intervals for proportions", The American Statistician
    54, 2000).
    """
    pooled = (right + right_then + 1) / (images + images_then + 2)
    return _ONCE_IN_1000 * math.sqrt(pooled * (1 - pooled) * (1 / images + 1 / images_then))


def _enough(now: Part, then: Part | None) -> DataCheck:
    least, half = LEAST_TEST_IMAGES, ""
    if then is not None and then.images // 2 > least:
        least, half = then.images // 2, f", half of the champion's {then.images:,}"
    return DataCheck(
        f"at least {least:,} test images{half}",
        f"{now.images:,}",
        now.images >= least,
        f"{now.images:,} test images are too few to judge by (at least {least:,}{half})",
        "test data",
    )


def _shared(now: Measures, then: Measures | None) -> DataCheck:
    before = 0.0 if then is None else then.shared / max(then.test.images, 1)
    return _at_most(
        "test data",
        "test images are training images, too",
        now.shared,
        now.test.images,
        before + MOST_SHARED,
    )


def _repeated(subject: Subject, now: Part, then: Part | None) -> DataCheck:
    beyond = MOST_REPEATED if subject == "test data" else _MOST_REPEATED_TRAINING
    before = _MOST_REPEATED_TRAINING if then is None else then.repeated / max(then.images, 1)
    which = _which(subject)
    return _at_most(
        subject, f"{which} images repeat another one", now.repeated, now.images, before + beyond
    )


def _blank(subject: Subject, now: Part, then: Part | None) -> DataCheck:
    before = 0.0 if then is None else then.blank / max(then.images, 1)
    which = _which(subject)
    return _at_most(
        subject, f"{which} images are blank", now.blank, now.images, before + MOST_BLANK
    )


def _labels(agreement: Agreement) -> Iterator[DataCheck]:
    parts: tuple[tuple[Subject, int, int], ...] = (
        ("training data", agreement.training, agreement.relabelled_training),
        ("test data", agreement.test, agreement.relabelled_test),
    )
    for subject, common, relabelled in parts:
        what = f"{_which(subject)} images of the champion's data are labelled otherwise"
        yield _at_most(subject, what, relabelled, common, _RELABELLED)


def _at_most(subject: Subject, what: str, count: int, images: int, share: float) -> DataCheck:
    """Require that no more than a share of images are something; one image always may be."""
    allowed = max(1, math.floor(share * images + 1e-9))
    return DataCheck(
        f"at most {allowed:,} of {images:,} {what}",
        f"{count:,}",
        count <= allowed,
        f"{count:,} of {images:,} {what} (at most {allowed:,})",
        subject,
    )


def _classes(subject: Subject, now: Part, then: Part, class_names: Sequence[str]) -> DataCheck:
    """Require the classes in about the same shares: their stability index, beyond chance."""
    psi = sum(psi_terms(then.classes, now.classes))
    present = sum(count > 0 for count in then.classes)
    quantile = chi_squared_quantile(max(present - 1, 1), _CHANCE)
    allowed = max(DRIFTED, quantile * (1 / max(now.images, 1) + 1 / max(then.images, 1)))
    missing = [
        name
        for name, count, before in zip(class_names, now.classes, then.classes, strict=True)
        if not count and before
    ]
    # A class of a few images may be missing by chance; one of many is not.
    expected = [before * now.images / then.images for before in then.classes]
    gone = [name for name in missing if expected[[*class_names].index(name)] > -math.log(_CHANCE)]
    complaint = f"the classes of the {subject} come in other shares (PSI {psi:.3f})"
    if gone:
        complaint = f"the {subject} has no images of {', '.join(gone)}"
    return DataCheck(
        f"the classes of the {subject} in the champion's shares (PSI at most {allowed:.3f})",
        f"PSI {psi:.3f}" + (f"; none of {', '.join(missing)}" if missing else ""),
        psi <= allowed and not gone,
        complaint,
        subject,
    )


def _looks(subject: Subject, now: Part, then: Part) -> Iterator[DataCheck]:
    """Require that images look as they did: how bright, how contrasted, where on the image."""
    seen, seen_then = now.images - now.blank, then.images - then.blank
    if not seen or not seen_then:  # the check of blank images says so
        return
    for name, least in _LEAST_MOVED.items():
        after: Spread = getattr(now, name)
        before: Spread = getattr(then, name)
        spread = max(after.deviation, before.deviation)
        chance = _STANDARD_ERRORS * spread * math.sqrt(1 / seen + 1 / seen_then)
        allowed = max(_MOVED * before.deviation, least, chance)
        moved = after.mean - before.mean
        what = _MEANINGS[name]
        unit = "pixels" if name in ("row", "column") else "of 255"
        yield DataCheck(
            f"{what} in {_which(subject)} images within {allowed:.1f} {unit} of the champion's",
            f"{after.mean:.1f}, against {before.mean:.1f}",
            abs(moved) <= allowed,
            f"{what} in {_which(subject)} images has moved from {before.mean:.1f} to "
            f"{after.mean:.1f} {unit} (at most by {allowed:.1f})",
            subject,
        )


def _which(subject: Subject) -> str:
    return subject.split()[0]
