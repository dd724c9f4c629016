import math

import numpy as np
import pytest

from digitflow.tasks.monitoring.drift import (
    DRIFTED,
    WATCH,
    Distribution,
    measure,
    pooled,
    psi_terms,
)

TEST_SET = Distribution((1000,) * 10, 0.97)


def seen(*counts: int, confidence: float = 0.9) -> Distribution:
    return Distribution(counts, confidence)


def test_worked_by_hand():
    """Shares 0.5, 0.3, 0.2 → 0.4, 0.3, 0.3, from counts that half a count more makes just these."""
    then, now = (49_999.5, 29_999.5, 19_999.5), (39_999.5, 29_999.5, 29_999.5)
    terms = psi_terms(then, now)  # type: ignore[arg-type]
    # (0.4 - 0.5) ln(0.4/0.5) = 0.0223144; (0.3 - 0.2) ln(0.3/0.2) = 0.0405465
    assert terms == pytest.approx((0.0223144, 0.0, 0.0405465), abs=1e-6)


def test_a_class_that_never_comes():
    """0 and 10 of 10 become 0.5 / 11 and 10.5 / 11: 2 · 10/11 · ln 21."""
    assert sum(psi_terms((0, 10), (10, 0))) == pytest.approx(2 * 10 / 11 * math.log(21))
    assert psi_terms((5, 5, 0), (7, 7, 0))[2] < 0.01


def test_no_term_is_negative_and_sides_may_be_swapped():
    rng = np.random.default_rng(0)
    for _ in range(100):
        a, b = rng.integers(0, 50, (2, 10)).tolist()
        assert min(psi_terms(a, b)) >= 0
        assert sum(psi_terms(a, b)) == pytest.approx(sum(psi_terms(b, a)))


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (seen(*(1000,) * 10), "stable"),
        (seen(*(500,) * 5, *(1100,) * 5), "watch"),
        (seen(*(100,) * 5, *(1100,) * 5), "drifted"),
        (seen(*(1,) * 5, *(5,) * 5), "too few"),  # 30 pictures prove nothing
        (seen(0, 0, 0, 0, 0, 0, 0, 0, 0, 30), "drifted"),  # but these do
    ],
)
def test_states(now: Distribution, state: str):
    drift = measure(TEST_SET, now)
    assert drift.state == state
    assert drift.psi == pytest.approx(sum(drift.terms))


def test_thresholds_are_the_usual_ones():
    assert (WATCH, DRIFTED) == (0.1, 0.25)


def test_chance_is_exceeded_about_once_in_twenty():
    rng = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    exceeded = 0
    for _ in range(2000):
        then = Distribution(tuple(rng.multinomial(10_000, shares).tolist()), 0.9)
        drift = measure(then, Distribution(tuple(rng.multinomial(300, shares).tolist()), 0.9))
        exceeded += drift.psi > drift.chance
    assert 0.03 < exceeded / 2000 < 0.07


def test_chance_by_the_table():
    """Chi-squared with 9 degrees of freedom exceeds 16.919 once in 20 times."""
    drift = measure(Distribution((10**9,) * 10, 0.9), Distribution((10,) * 10, 0.9))
    assert drift.chance == pytest.approx(16.919 / 100, rel=0.005)


def test_pooled():
    assert pooled([seen(1, 3, confidence=0.5), seen(5, 7, confidence=1.0)]) == Distribution(
        (6, 10), 0.875
    )


@pytest.mark.parametrize("now", [seen(0, 0), seen(1, 2, 3)])
def test_what_cannot_be_compared(now: Distribution):
    with pytest.raises(ValueError, match=r"expected pictures of the same classes on both sides"):
        measure(seen(4, 4), now)
