"""Temperature scaling: it finds what outputs were multiplied by, and changes no answer."""

import numpy as np
import pytest

from digitflow.tasks.nn.inference.temperature import at_temperature, fit_temperature


def drawn(count: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the very probabilities that they mean."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (count, classes))
    shares = at_temperature(logits, 1)
    labels = (shares.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("factor", [0.05, 1.0, 4.0])
def test_finds_what_calibrated_logits_were_multiplied_by(factor: float) -> None:
    logits, labels = drawn(20_000)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_is_the_least_of_the_likelihoods_around_it() -> None:
    logits, labels = drawn(500)
    rows = np.arange(len(labels))
    best = fit_temperature(3 * logits, labels)

    def loss(temperature: float) -> float:
        return float(-np.log(at_temperature(3 * logits, temperature)[rows, labels]).mean())

    assert loss(best) < min(loss(best * 1.01), loss(best / 1.01))


def test_leaves_the_order_and_sums_to_one() -> None:
    logits, _ = drawn(100)
    shares = at_temperature(1e4 * logits, 7.0)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert np.array_equal(shares.argmax(axis=1), logits.argmax(axis=1))
    np.testing.assert_allclose(
        at_temperature(np.array([[1.0, 3.0]]), 2.0), [[1 / (1 + np.e), np.e / (1 + np.e)]]
    )
