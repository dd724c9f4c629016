import itertools
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.layers.convolution import GlobalAveragePool, MaxPool
from digitflow.tasks.nn.randomness import Randomness
from tests.nn.gradients import assert_gradients_are_right, built

GRID = list(itertools.product((1, 3), (1, 2), (4, 5, 7), (4, 6), (1, 2, 3)))


def slow_max_pool(x: Any, size: int) -> Any:
    n, channels, height, width = x.shape
    y = np.empty((n, channels, height // size, width // size))
    for image, channel, row, column in np.ndindex(y.shape):
        top, left = row * size, column * size
        y[image, channel, row, column] = x[
            image, channel, top : top + size, left : left + size
        ].max()
    return y


def distinct(*shape: int) -> Any:
    """Numbers far enough apart that central differences cross no maximum."""
    values = np.random.default_rng(0).permutation(int(np.prod(shape)))
    return values.reshape(shape) * 0.01


@pytest.mark.parametrize("case", GRID)
def test_max_pooling_agrees_with_the_definition(case: tuple[int, ...]) -> None:
    *shape, size = case
    layer = built(MaxPool(size), tuple(shape[1:]))
    x = distinct(*shape)
    y = layer.forward(x.copy(), training=True)
    assert y.shape == (shape[0], *layer.output_shape(tuple(shape[1:])))
    assert np.array_equal(y, slow_max_pool(x, size))


@pytest.mark.parametrize("case", GRID)
def test_max_pooling_gradients(case: tuple[int, ...]) -> None:
    *shape, size = case
    assert_gradients_are_right(built(MaxPool(size), tuple(shape[1:])), distinct(*shape))


def test_among_equals_one_place_gets_the_whole_gradient() -> None:
    layer = built(MaxPool(), (1, 2, 4))
    x = np.array([[[[7.0, 7.0, 1.0, 2.0], [7.0, 7.0, 2.0, 1.0]]]])
    layer.forward(x, training=True)
    dx = layer.backward(np.array([[[[10.0, 20.0]]]]))
    assert dx.tolist() == [[[[10, 0, 0, 0], [0, 0, 20, 0]]]]


def test_max_pooling_refuses_images_that_are_too_small() -> None:
    with pytest.raises(ValueError, match=r"both ≥ 3; found \(1, 2, 9\)"):
        MaxPool(3).build((1, 2, 9), Randomness.from_seed(0), np.float64)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 4, 5)])
def test_global_average_pooling(shape: tuple[int, ...]) -> None:
    layer = built(GlobalAveragePool(), shape[1:])
    x = np.random.default_rng(0).standard_normal(shape)
    y = layer.forward(x.copy(), training=True)
    assert y.shape == (shape[0], *layer.output_shape(shape[1:]))
    np.testing.assert_allclose(y, x.mean(axis=(2, 3)), rtol=1e-13)
    assert_gradients_are_right(layer, x)
