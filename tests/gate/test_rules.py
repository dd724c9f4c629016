"""The gate: each demand alone decides, and the test of significance is exact."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from digitflow.tasks.gate.rules import Rules, decide, mcnemar

NAMES = ("a", "b")
LABELS = np.array([0] * 10 + [1] * 10)
LENIENT = Rules(min_improvement=0.0, max_class_drop=1.0, floor=0.0)


def answers(wrong: list[int]) -> np.ndarray:
    """Outputs that are right but for the images listed."""
    said = LABELS.copy()
    said[wrong] = 1 - said[wrong]
    return np.eye(2)[said]


def test_a_better_model_is_promoted_with_every_number() -> None:
    decision = decide(answers([0]), answers([0, 1, 12]), LABELS, NAMES, LENIENT)
    assert decision.promoted
    assert decision.challenger_accuracy == 0.95
    assert decision.champion_accuracy == 0.85
    assert (decision.only_challenger_right, decision.only_champion_right) == (2, 0)
    assert decision.p_value == 0.5  # two coins, both heads or both tails
    assert decision.recalls == (("a", 0.8, 0.9), ("b", 0.9, 1.0))


def test_the_same_answers_are_no_improvement() -> None:
    decision = decide(answers([3]), answers([3]), LABELS, NAMES, LENIENT)
    assert not decision.promoted
    assert [check.met for check in decision.checks] == [True, False, True]


@pytest.mark.parametrize(
    ("rules", "failing"),
    [
        (Rules(0.0, 1.0, 0.96), 0),
        (Rules(0.11, 1.0, 0.0), 1),
        (Rules(0.0, 0.05, 0.0), 2),
    ],
)
def test_each_demand_alone_rejects(rules: Rules, failing: int) -> None:
    # One class gains three images, the other loses one: 0.85 → 0.95.
    decision = decide(answers([12]), answers([0, 1, 2]), LABELS, NAMES, rules)
    assert not decision.promoted
    assert [check.met for check in decision.checks].index(False) == failing


@pytest.mark.parametrize("rules", [Rules(0.1, 1.0, 0.95), Rules(0.0, 0.1, 0.0)])
def test_a_bound_that_is_just_reached_is_met(rules: Rules) -> None:
    assert decide(answers([12]), answers([0, 1, 2]), LABELS, NAMES, rules).promoted


def test_the_first_model_needs_only_the_floor() -> None:
    first = decide(answers([0]), None, LABELS, NAMES, Rules(0.5, 0.0, 0.95))
    assert first.promoted
    assert first.p_value is None
    assert not decide(answers([0]), None, LABELS, NAMES, Rules(0.0, 1.0, 0.96)).promoted


def test_a_class_without_images_neither_falls_nor_rises() -> None:
    decision = decide(answers([0]), answers([0, 1]), LABELS, ("a", "b", "c"), Rules(0, 0, 0))
    assert decision.promoted
    assert decision.recalls[2] == ("c", 0.0, 0.0)


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match="found 20 outputs and 5 labels"):
        decide(answers([]), None, LABELS[:5], NAMES, LENIENT)
    with pytest.raises(ValueError, match="expected 20 outputs of the champion, found 3"):
        decide(answers([]), answers([])[:3], LABELS, NAMES, LENIENT)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (2, 0), (6, 6), (10, 2), (2, 10), (40, 25), (500, 430)]
)
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    n = gained + lost
    tail = sum(comb(n, count) for count in range(min(gained, lost) + 1))
    expected = min(1.0, 2 * tail / 2**n) if n else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-12)


def test_mcnemar_bears_large_counts() -> None:
    # The normal approximation with continuity correction, which is good here.
    assert mcnemar(5100, 4900) == pytest.approx(0.0466, abs=5e-4)
    assert mcnemar(20_000, 0) == 0.0
