"""The reserve: always the same images, and an interval that holds what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from digitflow.tasks.gate.reserve import ONE_IN, Expected, expect, in_reserve
from digitflow.tasks.nn.proportions import CONFIDENCE

IMAGES = np.random.default_rng(0).integers(0, 256, (2_000, 9, 7), np.uint8)


def test_about_one_in_five() -> None:
    assert abs(in_reserve(IMAGES).mean() - 1 / ONE_IN) < 0.03
    assert ONE_IN == 5


def test_an_image_is_in_it_whatever_lies_around_it() -> None:
    reserve = in_reserve(IMAGES)
    order = np.random.default_rng(1).permutation(len(IMAGES))
    assert (in_reserve(IMAGES[order]) == reserve[order]).all()
    assert (in_reserve(IMAGES[:300]) == reserve[:300]).all()
    twice = in_reserve(np.concatenate([IMAGES[:50], IMAGES[:50]]))
    assert (twice[:50] == twice[50:]).all()
    # The choice itself must not change: an image that was compared by would become a reserve.
    assert np.flatnonzero(reserve[:30]).tolist() == [4, 7, 11, 17, 18, 29]


def test_an_image_in_another_layout_is_the_same_image() -> None:
    assert (in_reserve(np.asfortranarray(IMAGES[:100])) == in_reserve(IMAGES[:100])).all()


@pytest.mark.parametrize("images", [20, 200, 2_000])
@pytest.mark.parametrize("accuracy", [0.6, 0.93, 0.99])
def test_the_interval_holds_the_truth_in_95_of_100_cases(images: int, accuracy: float) -> None:
    rng = np.random.default_rng(images)
    found = [expect(rng.random(images) < accuracy) for _ in range(1_500)]
    assert all(found)
    within = np.mean([accuracy in each for each in found if each is not None])
    assert within > CONFIDENCE - 0.03  # whole images: for few of them it is a little more or less


def test_worked_by_hand() -> None:
    """9 of 10 right: Wilson's interval is 0.5958 to 0.9821."""
    found = expect(np.arange(10) < 9)
    assert found is not None
    assert found.accuracy - found.margin == pytest.approx(0.5958, abs=1e-4)
    assert found.accuracy + found.margin == pytest.approx(0.9821, abs=1e-4)
    assert found.images == 10
    assert str(Expected(0.927, 0.005, 2_000)) == "0.9270 ± 0.0050"
    assert 0.9319 in Expected(0.927, 0.005, 2_000)
    assert 0.9321 not in Expected(0.927, 0.005, 2_000)


def test_without_a_reserve_nothing_is_expected() -> None:
    assert expect(np.zeros(0, bool)) is None
