from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.losses import LOSSES, CrossEntropy, Loss, SquaredError
from tests.nn.gradients import central_difference, relative_error

LABELS = np.array([2, 0, 1, 2])


def outputs(seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((4, 3))


def test_cross_entropy_worked_by_hand() -> None:
    loss = CrossEntropy(2, dtype="float64")
    # Logits 0 and ln 3 are the probabilities 1/4 and 3/4.
    losses = loss.forward(np.array([[0.0, np.log(3)], [0.0, np.log(3)]]), np.array([1, 0]))
    np.testing.assert_allclose(losses, [np.log(4 / 3), np.log(4)], rtol=1e-14)
    np.testing.assert_allclose(loss.backward(2), [[0.125, -0.125], [-0.375, 0.375]], rtol=1e-14)


def test_label_smoothing_worked_by_hand() -> None:
    loss = CrossEntropy(2, smoothing=0.2, dtype="float64")
    # The target is (0.1, 0.9): 0.1·ln 4 + 0.9·ln(4/3), and p - t = (0.15, -0.15).
    losses = loss.forward(np.array([[0.0, np.log(3)]]), np.array([1]))
    np.testing.assert_allclose(losses, [0.1 * np.log(4) + 0.9 * np.log(4 / 3)], rtol=1e-14)
    np.testing.assert_allclose(loss.backward(1), [[0.15, -0.15]], rtol=1e-14)


def test_squared_error_worked_by_hand() -> None:
    loss = SquaredError(3, dtype="float64")
    assert loss.forward(np.array([[1.0, 0.5, -1.0]]), np.array([0])).tolist() == [1.25]
    assert loss.backward(2).tolist() == [[0, 0.5, -1]]


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients(name: str, smoothing: float) -> None:
    loss, z = LOSSES[name](3, smoothing, "float64"), outputs()

    def mean() -> float:
        return float(loss.forward(z, LABELS).sum()) / 4

    loss.forward(z, LABELS)
    found = loss.backward(4).copy()
    assert relative_error(found, central_difference(mean, z)) <= 1e-6


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_outputs_are_left_alone(name: str) -> None:
    z = outputs()
    loss = LOSSES[name](3, 0.0, "float64")
    loss.forward(z, LABELS)
    loss.backward(4)
    assert np.array_equal(z, outputs())


def test_cross_entropy_stays_finite_for_huge_logits() -> None:
    loss = CrossEntropy(2)
    losses = loss.forward(np.array([[1e30, 0], [1e4, -1e4]], np.float32), np.array([0, 1]))
    assert losses.tolist() == [0, 20_000]
    assert loss.backward(2).tolist() == [[0, 0], [0.5, -0.5]]


@pytest.mark.parametrize("label", [3, 255, -1])
@pytest.mark.parametrize("kind", LOSSES.values())
def test_a_label_that_is_no_class_is_refused(kind: type[Loss], label: int) -> None:
    """A gather that clips would make it the last class without a word."""
    with pytest.raises(ValueError, match=f"from 0 to 2; found .*{label}"):
        kind(3).forward(np.zeros((2, 3), np.float32), np.array([0, label]))
