from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.randomness import Randomness
from tests.nn.gradients import assert_gradients_are_right, built, relative_error

SHAPES = [(2, 1), (6, 3), (33, 4), (2, 1, 1, 1), (3, 2, 4, 5), (1, 3, 2, 2)]


def slow_batch_norm(x: Any, scale: Any, shift: Any, epsilon: float) -> Any:
    """Algorithm 1 of the paper, feature by feature."""
    y = np.empty_like(x)
    for feature in range(x.shape[1]):
        values = x[:, feature]
        normalized = (values - values.mean()) / np.sqrt(values.var() + epsilon)
        y[:, feature] = scale[feature] * normalized + shift[feature]
    return y


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_definition(shape: tuple[int, ...]) -> None:
    layer = built(BatchNorm(), shape[1:])
    assert isinstance(layer, BatchNorm)
    x = np.random.default_rng(0).standard_normal(shape) * 3 + 1
    expected = slow_batch_norm(x, layer.scale.value, layer.shift.value, 1e-5)
    assert relative_error(layer.forward(x.copy(), training=True), expected) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    # A large epsilon keeps the curvature low enough for central differences on two samples.
    assert_gradients_are_right(built(BatchNorm(epsilon=0.1), shape[1:]), x)


def test_running_statistics_worked_by_hand() -> None:
    layer = BatchNorm(momentum=0.25)
    layer.build((1,), Randomness.from_seed(0), np.float64)
    layer.forward(np.array([[1.0], [3.0]]), training=True)
    # Mean 2, unbiased variance 2; running mean 0.75·0 + 0.25·2, variance 0.75·1 + 0.25·2.
    assert layer.running_mean.tolist() == [0.5]
    assert layer.running_variance.tolist() == [1.25]
    y = layer.forward(np.array([[0.5], [2.0]]), training=False)
    np.testing.assert_allclose(y, [[0], [1.5 / np.sqrt(1.25 + 1e-5)]], rtol=1e-12)
    # Prediction does not touch them.
    assert layer.running_mean.tolist() == [0.5]


def test_prediction_does_not_depend_on_the_company() -> None:
    layer = built(BatchNorm(), (3,))
    x = np.random.default_rng(0).standard_normal((8, 3))
    layer.forward(x.copy(), training=True)
    together = layer.forward(x.copy(), training=False).copy()
    alone = layer.forward(x[:1].copy(), training=False)
    np.testing.assert_allclose(alone, together[:1], rtol=1e-12)


def test_one_value_per_feature_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 values"):
        built(BatchNorm(), (3,)).forward(np.ones((1, 3)), training=True)
