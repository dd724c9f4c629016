"""Thresholds: 99 in 100 images of the same kind pass, and what is of none does not."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from digitflow.tasks.nn.inference import outliers
from digitflow.tasks.nn.inference.outliers import Outliers, exceeding, fit_outliers

Images = NDArray[np.uint8]
CLASSES = 3
# A pattern for each class, of 9 x 7 pixels.
PATTERNS = np.random.default_rng(0).integers(40, 200, (CLASSES, 9, 7))


def images(count: int, seed: int) -> tuple[Images, NDArray[np.int64], NDArray[np.float64]]:
    """Images, their classes, and outputs of a network that knows them."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, CLASSES, count)
    made = PATTERNS[classes] * rng.uniform(0.7, 1.1, (count, 1, 1))
    made += rng.normal(0, 8, made.shape)
    outputs = rng.normal(0, 1, (count, CLASSES)) + 8 * np.eye(CLASSES)[classes]
    return made.clip(0, 255).astype(np.uint8), classes, outputs


@pytest.fixture(scope="module")
def fitted() -> Outliers:
    learnt, classes, _ = images(600, 1)
    held_out, _, outputs = images(2_000, 2)
    return fit_outliers(learnt, classes, np.arange(600), held_out, outputs)


def test_images_of_the_same_kind_pass(fitted: Outliers) -> None:
    shown, _, outputs = images(4_000, 3)
    flagged = fitted.scores(shown, outputs) > fitted.threshold
    assert 0.001 < flagged.mean() < 0.015


def test_other_images_do_not_however_sure_the_network_is(fitted: Outliers) -> None:
    _, _, outputs = images(200, 4)
    noise = np.random.default_rng(5).integers(0, 256, (200, 9, 7), dtype=np.uint8)
    assert (fitted.scores(noise, outputs) > fitted.threshold).all()


def test_nor_do_images_that_no_output_is_large_for(fitted: Outliers) -> None:
    shown, _, outputs = images(200, 6)
    assert (fitted.scores(shown, outputs - 8) > fitted.threshold).mean() >= 0.98


def test_computes_with_one_thread_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another number gives other last bits, and on a busy machine is a hundred times slower."""
    threads: set[int] = set()
    original = outliers._averaged

    def counted(given: Images) -> NDArray[np.float32]:
        threads.update(
            each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"
        )
        return original(given)

    monkeypatch.setattr(outliers, "_averaged", counted)
    learnt, classes, _ = images(90, 9)
    held_out, _, outputs = images(200, 10)
    with threadpool_limits(3, user_api="blas"):
        fitted = fit_outliers(learnt, classes, np.arange(90), held_out, outputs)
        fitted.scores(held_out, outputs)
    assert threads == {1}


def test_comes_back_as_it_went(fitted: Outliers) -> None:
    shown, _, outputs = images(50, 7)
    back = Outliers.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(back.scores(shown, outputs), fitted.scores(shown, outputs))
    with pytest.raises(ValueError, match="expected thresholds with middle, spread, threshold"):
        Outliers.from_arrays({"means": fitted.means, "components": fitted.components})


def test_a_class_without_images_and_large_images_are_taken() -> None:
    learnt, classes, _ = images(90, 8)
    held_out, _, outputs = images(120, 9)
    large = [each.repeat(8, axis=1).repeat(8, axis=2) for each in (learnt, held_out)]
    more = np.concatenate([outputs, np.zeros((120, 1))], axis=1)
    found = fit_outliers(large[0], classes, np.arange(90), large[1], more)
    assert found.means.shape == (CLASSES + 1, 24 * 19)
    assert np.isfinite(found.scores(large[1], more)).all()


def test_too_few_images_are_refused() -> None:
    learnt, classes, outputs = images(90, 8)
    with pytest.raises(ValueError, match="at least 100 images that the network did not learn from"):
        fit_outliers(learnt, classes, np.arange(90), learnt, outputs)


@pytest.mark.parametrize(("count", "most"), [(100, 0), (298, 0), (299, 0), (473, 1), (5_000, 38)])
def test_so_many_may_lie_above(count: int, most: int) -> None:
    """Against the binomial distribution summed out."""
    assert exceeding(count) == most

    def at_most(found: int) -> float:
        return sum(math.comb(count, k) * 0.01**k * 0.99 ** (count - k) for k in range(found + 1))

    assert at_most(most) <= 0.05 or most == 0
    assert at_most(most + 1) > 0.05
