import math

import numpy as np
import pytest

from digitflow.tasks.monitoring.drift import (
    DRIFTED,
    STATES,
    WATCH,
    Distribution,
    chi_squared_quantile,
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


def test_what_is_called_chance_is_exceeded_once_in_ten_thousand():
    """By the table: chi-squared with 9 degrees of freedom exceeds 33.72 once in 10,000 times."""
    drift = measure(Distribution((10**9,) * 10, 0.9), Distribution((10,) * 10, 0.9))
    assert drift.chance == pytest.approx(33.72 / 100, rel=0.02)
    assert chi_squared_quantile(9, 0.05) == pytest.approx(16.919, rel=0.005)
    assert chi_squared_quantile(1, 0.05) == pytest.approx(3.841, rel=0.05)
    assert chi_squared_quantile(0, 0.05) == 0.0


def test_pooled():
    assert pooled([seen(1, 3, confidence=0.5), seen(5, 7, confidence=1.0)]) == Distribution(
        (6, 10), 0.875
    )


@pytest.mark.parametrize("now", [seen(0, 0), seen(1, 2, 3)])
def test_what_cannot_be_compared(now: Distribution):
    with pytest.raises(ValueError, match=r"expected pictures of the same classes on both sides"):
        measure(seen(4, 4), now)


class Pictures:
    """Pictures of ten classes, and what is recorded of so many of them.

    How sure a network is of them is skewed as it is of MNIST: near 1 of most, far below of some.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def seen(
        self, images: int, *, sure: float = 1.0, ink: float = 1.0, blank: float = 0.0, test=False
    ) -> Distribution:
        without = int(self.rng.binomial(images, blank))
        shown = images - without
        counts = self.rng.multinomial(shown, np.full(10, 0.1))
        confidence = sure * (1 - 0.7 * self.rng.beta(0.3, 1.8, shown))
        brightness = ink * self.rng.normal(33, 11, shown)
        contrast = ink * self.rng.normal(77, 12, shown)
        looks = {"confidence": confidence, "brightness": brightness, "contrast": contrast}
        means = {name: float(each.mean()) if shown else 0.0 for name, each in looks.items()}
        deviations = tuple((name, float(each.std())) for name, each in looks.items())
        return Distribution(
            tuple(counts.tolist()), **means, blank=without, deviations=deviations if test else ()
        )


class TestSigns:
    @pytest.mark.parametrize("images", [50, 100, 400])
    def test_a_year_without_drift_has_no_more_than_one_false_alarm(self, images: int):
        pictures = Pictures(images)
        alarms, years = 0, 5
        for _ in range(years):
            then = pictures.seen(1_000, test=True)
            nights = [pictures.seen(images, blank=0.01) for _ in range(365)]
            for night, newest in enumerate(nights):
                together = pooled(nights[max(0, night - 9) : night + 1])
                states = [measure(then, each).state for each in (newest, together)]
                alarms += max(states, key=STATES.index) == "drifted"
        assert alarms / years <= 1

    @pytest.mark.parametrize("images", [50, 100, 400])
    @pytest.mark.parametrize(
        ("fault", "sign"),
        [
            ({"sure": 0.8}, "confidence"),  # turned, or noisy
            ({"ink": 1 / 3}, "brightness"),
            ({"ink": 1 / 3}, "contrast"),
            ({"blank": 0.9}, "blank"),
        ],
    )
    def test_what_is_wrong_with_pictures_whose_classes_are_as_ever(
        self, images: int, fault: dict[str, float], sign: str
    ):
        pictures = Pictures(images)
        then = pictures.seen(1_000, test=True)
        for _ in range(20):
            drift = measure(then, pictures.seen(images, **fault))
            assert drift.state == "drifted"
            assert sign in [each.name for each in drift.reasons]

    def test_a_small_change_of_many_pictures_is_no_drift(self):
        """Of 100,000 any difference is more than chance explains; a small one does no harm."""
        pictures = Pictures(0)
        then = pictures.seen(10_000, test=True)
        now = pictures.seen(100_000, sure=0.99, ink=1.02)
        assert measure(then, now).state == "stable"
        assert measure(then, pictures.seen(100_000, ink=1.05)).state == "watch"

    def test_to_be_surer_is_no_drift(self):
        pictures = Pictures(0)
        assert measure(pictures.seen(1_000, sure=0.7, test=True), pictures.seen(400)).reasons == ()

    def test_nothing_but_blank_pictures(self):
        then = Pictures(0).seen(1_000, test=True)
        assert measure(then, Distribution((0,) * 10, 0.0, blank=1)).state == "too few"
        assert measure(then, Distribution((0,) * 10, 0.0, blank=50)).state == "drifted"

    def test_what_was_not_recorded_is_not_compared(self):
        then = Pictures(0).seen(1_000, test=True)
        older = Distribution((40,) * 10, 0.9)
        assert [each.name for each in measure(then, older).signs] == ["confidence", "blank"]
        other = Distribution((40,) * 10, 0.2, confidence_compares=False)
        assert measure(then, other).state == "stable"
        assert pooled([older, Pictures(1).seen(50)]).brightness is None
        assert not pooled([older, other]).confidence_compares
