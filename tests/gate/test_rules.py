"""The gate: each demand alone decides, chance decides nothing, and the tests are exact."""

from __future__ import annotations

from fractions import Fraction
from math import comb, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from digitflow.tasks.gate.rules import (
    Check,
    Decision,
    Rules,
    also_better,
    at_least,
    decide,
    images_to_judge,
    is_ahead,
    mcnemar,
)

NAMES = ("a", "b")
LABELS = np.array([0] * 50 + [1] * 50)
LENIENT = Rules(min_improvement=0.0, max_class_drop=1.0, floor=0.0)


def answers(wrong: list[int] | range, labels: NDArray[np.int64] = LABELS) -> NDArray[np.float64]:
    """Outputs that are right but for the images listed."""
    classes = int(labels.max()) + 1
    said = labels.copy()
    said[wrong] = (said[wrong] + 1) % classes
    return np.eye(classes)[said]


def check(decision: Decision, about: str) -> Check:
    (found,) = [each for each in decision.checks if about in each.requirement]
    return found


def test_a_better_model_is_promoted_with_every_number() -> None:
    decision = decide(answers([0]), answers([0, 1, 52]), LABELS, NAMES, LENIENT)
    assert decision.promoted
    assert decision.challenger_accuracy == 0.99
    assert decision.champion_accuracy == 0.97
    assert (decision.only_challenger_right, decision.only_champion_right) == (2, 0)
    assert decision.p_value == pytest.approx(0.5)  # two coins, both heads or both tails
    assert decision.recalls == (("a", 0.96, 0.98), ("b", 0.98, 1.0))


@pytest.mark.parametrize(
    ("rules", "failing"),
    [
        (Rules(0.0, 1.0, 0.985), "accuracy of at least"),
        (Rules(0.051, 1.0, 0.0), "more accurate than the champion"),
        (Rules(0.0, 0.15, 0.0), "no class's recall"),
    ],
)
def test_each_demand_alone_rejects(rules: Rules, failing: str) -> None:
    # One class gains thirteen images, the other loses eight: 0.85 → 0.90; or it loses none.
    lost = range(50, 58) if failing == "no class's recall" else range(50, 52)
    decision = decide(answers(lost), answers(range(20)), LABELS, NAMES, rules)
    if failing.startswith("more"):
        decision = decide(answers(range(50, 52)), answers(range(7)), LABELS, NAMES, rules)
    assert not decision.promoted
    assert [each.met for each in decision.checks].count(False) == 1
    assert not check(decision, failing).met


def test_a_bound_that_is_just_reached_is_met() -> None:
    for rules in (Rules(0.05, 1.0, 0.98), Rules(0.0, 0.04, 0.0)):
        decision = decide(answers([50, 51]), answers(range(7)), LABELS, NAMES, rules)
        assert decision.promoted, decision.checks


class TestChance:
    def test_the_same_answers_are_no_improvement(self) -> None:
        decision = decide(answers([3]), answers([3]), LABELS, NAMES, LENIENT)
        assert not decision.promoted
        assert not check(decision, "more accurate than the champion").met

    def test_one_image_is_no_improvement(self) -> None:
        decision = decide(answers([]), answers([3]), LABELS, NAMES, LENIENT)
        assert not decision.promoted
        assert check(decision, "than the champion").found == "+0.0100 ± 0.0100 (1 gained, 0 lost)"

    @pytest.mark.parametrize("images", [5, 40, 1_000])
    def test_the_step_is_one_standard_error_of_the_paired_difference(self, images: int) -> None:
        rng = np.random.default_rng(images)
        for _ in range(300):
            gained = int(rng.integers(0, images // 2 + 1))
            lost = int(rng.integers(0, images // 2 + 1))
            each = np.repeat([1, -1, 0], [gained, lost, images - gained - lost])
            error = each.std(ddof=1) / sqrt(images)
            if abs(each.mean() - error) > 1e-12:
                assert is_ahead(gained, lost) == (each.mean() > error), (gained, lost)
            else:
                assert not is_ahead(gained, lost)

    @pytest.mark.parametrize(("classes", "each"), [(10, 100), (26, 100), (100, 10)])
    def test_a_model_better_in_every_class_is_seldom_stopped(self, classes: int, each: int) -> None:
        """One point better in each, and independent: at most one case of 20 by chance."""
        rng = np.random.default_rng(classes)
        labels = np.repeat(np.arange(classes), each)
        stopped = 0
        for _ in range(200):
            before = answers(np.flatnonzero(rng.random(len(labels)) > 0.90).tolist(), labels)
            after = answers(np.flatnonzero(rng.random(len(labels)) > 0.91).tolist(), labels)
            names = tuple(map(str, range(classes)))
            found = decide(after, before, labels, names, Rules(0.0, 0.02, 0.0))
            stopped += not check(found, "no class's recall").met
        assert stopped / 200 <= 0.05

    @pytest.mark.parametrize("classes", [2, 10, 26, 100])
    def test_a_real_fall_in_a_class_that_can_be_judged_is_stopped(self, classes: int) -> None:
        """From 0.9 to 0.5 in the last class, which is as small as it may be; errors independent."""
        rng = np.random.default_rng(classes)
        small = images_to_judge(classes)
        labels = np.repeat(np.arange(classes), [100] * (classes - 1) + [small])
        recall = np.where(labels == classes - 1, 0.5, 0.9)
        stopped = 0
        for _ in range(300):
            before = answers(np.flatnonzero(rng.random(len(labels)) > 0.9).tolist(), labels)
            after = answers(np.flatnonzero(rng.random(len(labels)) > recall).tolist(), labels)
            names = tuple(map(str, range(classes)))
            found = decide(after, before, labels, names, Rules(0.0, 0.02, 0.0))
            assert found.too_small == ()
            stopped += f"recall of {classes - 1} falls" in check(found, "no class's").complaint
        assert stopped / 300 >= 0.75  # four in five, found in 300 cases

    def test_classes_too_small_to_judge_are_named(self) -> None:
        labels = np.repeat([0, 1, 2], [60, 5, 20])
        names = ("big", "tiny", "small")
        decision = decide(answers([], labels), answers([0, 1, 2], labels), labels, names, LENIENT)
        assert decision.too_small == ("tiny", "small")
        said = f"none falls; too few images to judge (below {images_to_judge(3)}): tiny, small"
        assert check(decision, "no class's recall").found == said
        many = np.repeat(np.arange(30), 3)
        decision = decide(
            answers([], many), answers([0], many), many, tuple(map(str, range(30))), LENIENT
        )
        assert check(decision, "no class's").found.endswith(
            ": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more"
        )

    def test_a_small_class_that_is_lost_altogether_stops_all_the_same(self) -> None:
        labels = np.repeat([0, 1, 2], [60, 60, 12])
        after = answers(range(120, 132), labels)
        decision = decide(
            after, answers(range(40), labels), labels, ("a", "b", "c"), Rules(0, 0.02, 0)
        )
        assert decision.too_small == ("c",)
        assert check(decision, "no class's").complaint == "recall of c falls by 1.0000"


class TestFloor:
    def test_the_first_model_needs_only_the_floor(self) -> None:
        first = decide(answers([0]), None, LABELS, NAMES, Rules(0.5, 0.0, 0.99))
        assert first.promoted
        assert first.p_value is None
        assert not decide(answers([0]), None, LABELS, NAMES, Rules(0.0, 1.0, 0.995)).promoted

    def test_nothing_that_hardly_beats_the_commonest_class(self) -> None:
        labels = np.repeat([0, 1], [90, 10])
        for wrong, met in ((range(90, 100), False), ([*range(92, 100)], True)):
            decision = decide(answers(wrong, labels), None, labels, NAMES, Rules(0, 0, 0.5))
            assert decision.promoted is met
            assert check(decision, "always answering a, the commonest class").met is met

    @pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("champion", [None, answers(range(40))])
    def test_outputs_that_are_not_finite_are_refused(
        self, broken: float, champion: NDArray[np.float64] | None
    ) -> None:
        outputs = answers([])
        outputs[7, 0] = broken
        decision = decide(outputs, champion, LABELS, NAMES, LENIENT)
        assert not decision.promoted
        said = "outputs for 1 images are not finite: training diverged"
        assert check(decision, "finite").complaint == said
        assert decision.challenger_accuracy == 0.99  # and are no answer, whatever their argmax

    def test_a_champion_whose_outputs_are_not_finite_is_beaten(self) -> None:
        nothing = np.full((100, 2), np.nan)
        assert decide(answers([]), nothing, LABELS, NAMES, LENIENT).champion_accuracy == 0.0
        assert decide(answers([]), nothing, LABELS, NAMES, LENIENT).promoted


def test_a_class_without_images_neither_falls_nor_rises() -> None:
    decision = decide(answers([0]), answers([0, 1, 2]), LABELS, ("a", "b", "c"), Rules(0, 0, 0))
    assert decision.promoted
    assert decision.recalls[2] == ("c", 0.0, 0.0)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="found 100 outputs and 5 labels"):
        decide(answers([]), None, LABELS[:5], NAMES, LENIENT)
    with pytest.raises(ValueError, match="expected 100 outputs of the champion, found 3"):
        decide(answers([]), answers([])[:3], LABELS, NAMES, LENIENT)


class TestExact:
    @pytest.mark.parametrize(
        ("gained", "lost"), [(0, 0), (1, 0), (2, 0), (6, 6), (10, 2), (2, 10), (40, 25), (500, 430)]
    )
    def test_mcnemar_is_the_binomial_test(self, gained: int, lost: int) -> None:
        n = gained + lost
        tail = sum(comb(n, count) for count in range(min(gained, lost) + 1))
        expected = min(1.0, 2 * tail / 2**n) if n else 1.0
        assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize("coins", [1, 2, 3, 10, 71, 501])
    def test_every_tail(self, coins: int) -> None:
        tail = 0
        for heads in range(coins, -1, -1):
            tail += comb(coins, heads)
            expected = float(Fraction(tail, 2**coins))
            assert at_least(heads, coins) == pytest.approx(expected, rel=1e-11)

    def test_large_counts(self) -> None:
        # The normal approximation with continuity correction, which is good here.
        assert mcnemar(5100, 4900) == pytest.approx(0.0466, abs=5e-4)
        assert mcnemar(20_000, 0) == 0.0
        assert mcnemar(10**9, 10**9) == 1.0


class TestTheChampionsOwnTestImages:
    @pytest.mark.parametrize(
        ("after", "met", "complaint"),
        [
            ([50, 51], True, ""),
            (range(20), False, "not more accurate than the champion (+0.0000)"),
            (range(1, 20), False, "not more accurate than the champion by more than chance"),
            (range(50, 62), False, "recall of b falls by 0.2400"),
        ],
    )
    def test_the_same_is_asked_of_them(
        self, after: list[int] | range, met: bool, complaint: str
    ) -> None:
        before = answers(range(20))
        found = also_better(answers(after), before, LABELS, NAMES, Rules(0.0, 0.02, 0.0))
        assert found.met is met
        assert met or complaint in found.complaint
