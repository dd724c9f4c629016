"""The gate: is a challenger good enough to take the champion's place? Pure NumPy.

Both are judged on the same test images, night after night. Of many models that are equally good
one will look better by chance, so the challenger must be ahead by more than one standard error of
the paired difference (the Ladder), must not become worse at any one class by more than chance
explains, and must beat whoever always answers the commonest class.

Source of the Ladder: A. Blum and M. Hardt, "The Ladder: a reliable leaderboard for machine learning
competitions", ICML 2015, arXiv:1502.04585, figure 3 (the parameter-free mechanism).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# How often, at most, the class rule stops a model that is worse at no class.
CLASS_ERROR_RATE = 0.05
# Images that a class must have, in units of -log2 of its share of that error rate: with so many a
# recall that falls from 0.9 to 0.5 is seen in four of five cases, for 2 to 100 classes, even if the
# two models err independently. (Found by simulation, which a test repeats.)
_IMAGES_TO_JUDGE = 4.6
_NAMED_AT_MOST = 10
# Up to so many coins the first term is computed in whole numbers; beyond they would be long ones.
_EXACT = 1_000


@dataclass(frozen=True)
class Rules:
    """What the gate requires, beside an improvement that chance does not explain.

    Attributes
    ----------
    min_improvement
        By how much the challenger's accuracy must exceed the champion's at least, as a share of 1.
    max_class_drop
        By how much the recall of a class may fall even if chance does not explain it, as a share
        of 1.
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
    too_small
        Names of the classes that have too few images for the class rule to see a recall fall from
        0.9 to 0.5.
    metric, tested_on
        What "accuracy" stands for above, and "images": `decide_by_scores` names others.
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
    too_small: tuple[str, ...] = ()
    metric: str = "accuracy"
    tested_on: str = "test images"


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
    right, answered = _answers(challenger, labels)
    accuracy = float(right.mean())
    alone = (
        Check(
            "every output is a finite number",
            "all are" if answered.all() else f"not for {int((~answered).sum()):,} images",
            bool(answered.all()),
            f"outputs for {int((~answered).sum()):,} images are not finite: training diverged",
        ),
        Check(
            f"accuracy of at least {rules.floor:.4f}",
            f"{accuracy:.4f}",
            accuracy >= rules.floor,
            f"accuracy {accuracy:.4f} is below the floor",
        ),
        _beats_commonest(right, labels, class_names),
    )
    own = _recalls(right, labels, len(class_names))
    if champion is None:
        first = Check("no champion yet: the first model that reaches the floor", "first", True, "")
        return Decision(
            all(check.met for check in alone),
            (*alone, first),
            len(labels),
            accuracy,
            None,
            0,
            0,
            None,
            tuple((name, None, own[i]) for i, name in enumerate(class_names)),
        )

    was_right, _ = _answers(champion, labels)
    before = float(was_right.mean())
    theirs = _recalls(was_right, labels, len(class_names))
    gained, lost = _paired(right, was_right)
    steady, too_small = _no_class_falls(right, was_right, labels, class_names, rules)
    checks = (*alone, _improves(gained, lost, len(labels), rules), steady)
    return Decision(
        all(check.met for check in checks),
        checks,
        len(labels),
        accuracy,
        before,
        gained,
        lost,
        mcnemar(gained, lost),
        tuple((name, theirs[i], own[i]) for i, name in enumerate(class_names)),
        too_small,
    )


def decide_by_scores(
    challenger: NDArray[Any], champion: NDArray[Any] | None, rules: Rules, metric: str
) -> Decision:
    """Judge a challenger against the champion by a score for each test row.

    The metric is the mean score. The rule is that of `decide`, where a score is 1 or 0; of classes
    nothing is known, so nothing is asked.

    Parameters
    ----------
    challenger, champion : NDArray, shape (n,)
        Scores of the same test rows, of which more is better; `champion` None if there is no
        champion yet.
    rules : Rules
        What is required; of `max_class_drop` there is no use.
    metric : str
        What the mean score is called.

    Raises
    ------
    ValueError
        If there are fewer than two rows, or a score of one is missing or no finite number.
    """
    for scores in (challenger, champion):
        if scores is not None:
            _check_scores(scores, challenger.shape, metric)
    ours = challenger.astype(np.float64)
    mean = float(ours.mean())
    checks = [
        Check(
            f"{metric} of at least {rules.floor:.4f}",
            f"{mean:.4f}",
            mean >= rules.floor,
            f"{metric} {mean:.4f} is below the floor",
        ),
    ]
    before: float | None = None
    better = worse = 0
    if champion is None:
        checks.append(
            Check("no champion yet: the first model that reaches the floor", "first", True, "")
        )
    else:
        theirs = champion.astype(np.float64)
        before = float(theirs.mean())
        better, worse = int((ours > theirs).sum()), int((ours < theirs).sum())
        checks.append(improves_scores(ours, theirs, rules, metric))
    return Decision(
        all(check.met for check in checks),
        tuple(checks),
        len(ours),
        mean,
        before,
        better,
        worse,
        None,
        (),
        metric=metric,
        tested_on="test rows",
    )


def improves_scores(
    challenger: NDArray[Any], champion: NDArray[Any], rules: Rules, metric: str
) -> Check:
    """Require that scores are higher by more than one standard error of their difference.

    Parameters
    ----------
    challenger, champion, rules, metric
        As for `decide_by_scores`.
    """
    differences = challenger.astype(np.float64) - champion
    gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
    return _ahead(
        float(differences.sum()),
        float(np.square(differences).sum()),
        len(differences),
        (gained, lost),
        rules,
        f"better by {metric}",
    )


def also_better(
    challenger: NDArray[Any],
    champion: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    rules: Rules,
) -> Check:
    """Require the same improvement on the champion's own test images.

    Where each night has test images of its own, each is another chance to be ahead by luck. On
    those that it was promoted by the champion holds a record, as where they never change.

    Parameters
    ----------
    challenger, champion, labels, class_names, rules
        As for `decide`.
    """
    right, was_right = right_answers(challenger, labels), right_answers(champion, labels)
    better = _improves(*_paired(right, was_right), len(labels), rules)
    steady, _ = _no_class_falls(right, was_right, labels, class_names, rules)
    complaints = [check.complaint for check in (better, steady) if not check.met]
    return Check(
        "the same on the champion's own test images",
        f"{better.found}; {steady.found}",
        better.met and steady.met,
        f"on the champion's own test images: {', '.join(complaints)}",
    )


def right_answers(outputs: NDArray[Any], labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return for which images the largest output is the right one, and all are finite numbers."""
    return _answers(outputs, labels)[0]


def is_ahead(gained: int, lost: int) -> bool:
    """Return whether a difference exceeds one standard error of itself: the Ladder's step.

    Of n images `gained` count +1, `lost` -1 and the others 0. Their mean d exceeds its standard
    error, the sample's standard deviation over √n, just if (gained - lost)² > gained + lost: n
    falls out, and whole numbers decide.

    Parameters
    ----------
    gained, lost : int
        Images that only the one, and only the other model got right.
    """
    return _exceeds_its_error(gained - lost, gained + lost)


def _exceeds_its_error(total: float, squares: float) -> bool:
    """Return the same of any paired differences, by their sum and the sum of their squares."""
    return total > 0 and total**2 > squares


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
    return min(1.0, 2 * at_least(max(gained, lost), gained + lost))


def at_least(heads: int, coins: int) -> float:
    """Return how probable at least so many heads of fair coins are.

    Terms of the binomial distribution, each made of the one before, so that time grows with their
    number and memory does not; those that no longer change the sum are left out.

    Parameters
    ----------
    heads : int
        0 to `coins`.
    coins : int
        At least 0.
    """
    if 2 * heads <= coins:
        # The greater part: what is left of 1, so that terms fall from the first on.
        return 1.0 - at_least(coins - heads + 1, coins) if heads else 1.0
    term = total = 1.0  # in units of the first
    for count in range(heads, coins):
        term *= (coins - count) / (count + 1)
        total += term
        if term < 1e-17 * total:
            break
    if coins <= _EXACT:
        return min(1.0, math.ldexp(math.comb(coins, heads), -coins) * total)
    first = (
        math.lgamma(coins + 1)
        - math.lgamma(heads + 1)
        - math.lgamma(coins - heads + 1)
        - coins * math.log(2)
    )
    return min(1.0, math.exp(first + math.log(total)))


def _check_scores(scores: NDArray[Any], shape: tuple[int, ...], metric: str) -> None:
    found = f"an array of {scores.dtype} of the shape {scores.shape}"
    if scores.shape == shape and scores.ndim == 1 and scores.dtype.kind in "biuf":
        lost = int((~np.isfinite(scores)).sum())
        if len(scores) > 1 and not lost:
            return
        found = f"{lost:,} of {len(scores):,} that are not"
    message = f"{metric}: expected a finite number for each test row, at least two; found {found}"
    raise ValueError(message)


def _answers(
    outputs: NDArray[Any], labels: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return for which images a model is right, and for which its outputs are finite.

    Where they are not, the largest of them means nothing, and the answer is wrong.
    """
    finite = np.isfinite(outputs).all(axis=1)
    return (outputs.argmax(axis=1) == labels) & finite, finite


def _paired(right: NDArray[np.bool_], was_right: NDArray[np.bool_]) -> tuple[int, int]:
    return int((right & ~was_right).sum()), int((~right & was_right).sum())


def _beats_commonest(
    right: NDArray[np.bool_], labels: NDArray[np.integer[Any]], class_names: Sequence[str]
) -> Check:
    """Require more than what needs no look at the images: always to answer the commonest class."""
    commonest = int(np.bincount(labels, minlength=len(class_names)).argmax())
    share = float((labels == commonest).mean())
    always = f"always answering {class_names[commonest]}, the commonest class"
    return Check(
        f"more accurate than {always}, by more than one standard error",
        f"{float(right.mean()):.4f}, against {share:.4f}",
        is_ahead(*_paired(right, labels == commonest)),
        f"hardly more accurate than {always} ({share:.4f})",
    )


def _improves(gained: int, lost: int, images: int, rules: Rules) -> Check:
    total, squares = gained - lost, gained + lost
    return _ahead(total, squares, images, (gained, lost), rules, "more accurate")


def _ahead(
    total: float, squares: float, count: int, paired: tuple[int, int], rules: Rules, better: str
) -> Check:
    gained, lost = paired
    difference = total / count
    # Rounding may take a variance of nothing below it.
    error = math.sqrt(max(squares - count * difference**2, 0.0) / max(count - 1, 1) / count)
    margin = f", and by at least {rules.min_improvement:.4f}" if rules.min_improvement else ""
    # In whole images, so that no rounding of shares decides.
    enough = total >= rules.min_improvement * count - 1e-9
    ahead = _exceeds_its_error(total, squares)
    short = "by more than chance" if not ahead else f"by {rules.min_improvement:.4f}"
    return Check(
        f"{better} than the champion by more than one standard error{margin}",
        f"{difference:+.4f} ± {error:.4f} ({gained} gained, {lost} lost)",
        ahead and enough,
        f"not {better} than the champion {short} ({difference:+.4f} ± {error:.4f})"
        if total > 0
        else f"not {better} than the champion ({difference:+.4f})",
    )


def _no_class_falls(
    right: NDArray[np.bool_],
    was_right: NDArray[np.bool_],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    rules: Rules,
) -> tuple[Check, tuple[str, ...]]:
    """Require that no class falls by more than allowed, and by more than chance explains.

    Each class has an exact paired one-sided test: were it no worse, of the images that only one
    model got right as many would be lost as gained. All together err in at most one case of 20
    (S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979).

    Returns
    -------
    Check
        Whether the requirement is met.
    tuple[str, ...]
        The classes that are too small to be judged.
    """
    classes = len(class_names)
    images = np.bincount(labels, minlength=classes)
    gained = np.bincount(labels[right & ~was_right], minlength=classes)
    lost = np.bincount(labels[~right & was_right], minlength=classes)
    present = [each for each in range(classes) if images[each]]
    chance = {each: at_least(int(lost[each]), int(gained[each] + lost[each])) for each in present}
    beyond_chance = []
    for place, each in enumerate(sorted(present, key=chance.__getitem__)):
        if chance[each] > CLASS_ERROR_RATE / (len(present) - place):
            break
        beyond_chance.append(each)
    falls = {each: float((lost[each] - gained[each]) / images[each]) for each in present}
    blocked = [each for each in beyond_chance if falls[each] > rules.max_class_drop + 1e-9]
    needed = images_to_judge(len(present))
    too_small = tuple(class_names[each] for each in present if images[each] < needed)
    worst = max(present, key=falls.__getitem__)
    found = (
        f"largest fall {falls[worst]:.4f}, class {class_names[worst]}"
        f"{'' if worst in beyond_chance else ', which chance explains'}"
        if falls[worst] > 0
        else "none falls"
    )
    if too_small:
        found += f"; too few images to judge (below {needed}): {_listed(too_small)}"
    complaint = ", ".join(
        f"recall of {class_names[each]} falls by {falls[each]:.4f}"
        for each in blocked[:_NAMED_AT_MOST]
    )
    requirement = (
        f"no class's recall falls by more than {rules.max_class_drop:.4f} and more than chance "
        "explains"
    )
    return Check(requirement, found, not blocked, complaint), too_small


def images_to_judge(classes: int) -> int:
    """Return how many test images a class must have for the class rule to see a real fall.

    Parameters
    ----------
    classes : int
        Number of classes that are judged together, at least 1.
    """
    return math.ceil(_IMAGES_TO_JUDGE * math.log2(classes / CLASS_ERROR_RATE))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def _recalls(
    right: NDArray[np.bool_], labels: NDArray[np.integer[Any]], classes: int
) -> list[float]:
    """Return the share of right answers for each class; 0 for one without images."""
    images = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[right], minlength=classes)
    shares = np.divide(hits, images, out=np.zeros(classes), where=images > 0)
    return [float(share) for share in shares]
