"""Gradients of random networks for every number of images and every order in memory.

Three proofs: central differences in float64, float32 against float64, and one step of the
training loop, whose passes must add up. `test_torch.py` has a fourth, where PyTorch is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from digitflow.tasks.nn.feed import Feed
from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.losses import LOSSES, Loss
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.training.optimizers import SGD
from digitflow.tasks.nn.training.trainer import Examples, Training
from tests.nn.random_networks import CLASSES, ORDERS, SIZES, in_order, random_network

Floats = NDArray[Any]
SEEDS = range(70)


def slope(f: Callable[[], float], x: Floats, direction: Floats, expected: float) -> float:
    """Return the central difference of `f` along `direction` that is nearest to `expected`.

    A step may carry one of thousands of numbers over the kink of a ReLU or a maximum; a smaller
    one does not. A gradient that is wrong is far from all of them.
    """
    kept, found = x.copy(), []
    for step in (1e-5, 1e-6, 1e-7):
        x[...] = kept + step * direction
        above = f()
        x[...] = kept - step * direction
        found.append((above - f()) / (2 * step))
        x[...] = kept
    return min(found, key=lambda each: abs(each - expected))


def assert_slope(f: Callable[[], float], x: Floats, gradient: Floats, rng: Any, what: str) -> None:
    direction = rng.choice([-1.0, 1.0], x.shape)
    expected = float((gradient * direction).sum())
    found = slope(f, x, direction, expected)
    scale = max(1.0, abs(found), float(np.abs(gradient).sum()) * 0.01)
    assert abs(found - expected) <= 2e-6 * scale, (what, found, expected)


def named_parameters(network: Network) -> dict[str, Any]:
    return {
        f"{index} {layer} {name}": parameter
        for index, layer in enumerate(network.layers)
        for name, parameter in layer.parameters.items()
    }


def drawn(seed: int, n: int, network: Network) -> tuple[Floats, Any, Loss]:
    """Images, labels and a loss for `network`."""
    rng = np.random.default_rng((seed, n))
    x = rng.standard_normal((n, *network.input_shape)).astype(network.dtype)
    kind = list(LOSSES.values())[seed % 2]
    loss = kind(CLASSES, float(rng.choice([0.0, 0.1])), network.dtype.name)
    return x, rng.integers(0, CLASSES, n), loss


def differentiated(network: Network, x: Floats, labels: Any, loss: Loss, order: str) -> Floats:
    """Forward and backward, with the gradient of the loss in `order`."""
    loss.forward(network.forward(x, training=True), labels)
    network.backward(in_order(loss.backward(len(x)), order))
    return network.gradients.copy()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gradient_of_a_random_network(seed: int) -> None:
    network, randomness = random_network(seed, "float64")
    n = max(SIZES[seed % len(SIZES)], network.smallest_batch)
    x, labels, loss = drawn(seed, n, network)
    x = in_order(x, ORDERS[seed % 4])
    state, before = randomness.state(), x.copy()

    def mean() -> float:
        randomness.restore(state)
        return float(loss.forward(network.forward(x, training=True), labels).sum()) / n

    for order in ("C", "F", "strided", "reversed"):
        randomness.restore(state)
        differentiated(network, x, labels, loss, order)
        gradients = {name: p.gradient.copy() for name, p in named_parameters(network).items()}
        rng = np.random.default_rng(seed)
        for name, parameter in named_parameters(network).items():
            assert_slope(mean, parameter.value, gradients[name], rng, f"{order}: {name}")
    # Asked twice, a loss and a network give the same gradient: nothing was used up.
    network.backward(loss.backward(n))
    twice = network.gradients.copy()
    network.backward(loss.backward(n))
    assert np.array_equal(network.gradients, twice)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("seed", SEEDS)
def test_float32_agrees_with_float64(seed: int) -> None:
    double, single = (random_network(seed, dtype)[0] for dtype in ("float64", "float32"))
    single.values[...] = double.values
    n = max(SIZES[seed % len(SIZES)], double.smallest_batch)
    gradients = []
    for network in (double, single):
        x, labels, loss = drawn(seed, n, network)
        gradients.append(differentiated(network, x, labels, loss, "C"))
    distance = np.linalg.norm(gradients[1] - gradients[0])
    assert distance <= 0.01 * np.linalg.norm(gradients[0]) + 1e-5


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_one_step_of_the_training_loop_is_the_gradient_of_the_whole_batch(
    seed: int, n: int
) -> None:
    # Without batch normalisation, a convolutional network sees the batch in several passes.
    network, randomness = random_network(seed, "float64", normalized=seed % 4 == 0, dropout=False)
    n = max(n, network.smallest_batch)
    x, labels, loss = drawn(seed, n, network)
    rows = np.arange(n)
    examples = Examples(Feed(x, network.input_shape, "float64"), labels, rows)
    start, rate = network.values.copy(), 1e-3
    training = Training(
        network, loss, SGD(), examples, randomness, epochs=1, batch_size=n,
        learning_rate=rate,
    )  # fmt: skip
    training.fit()
    step = (start - network.values) / rate
    network.values[...] = start

    def mean() -> float:
        return float(loss.forward(network.forward(x, training=True), labels).sum()) / n

    rng = np.random.default_rng(seed)
    for name, parameter in named_parameters(network).items():
        first = (parameter.value.ctypes.data - network.values.ctypes.data) // 8
        gradient = step[first : first + parameter.value.size].reshape(parameter.value.shape)
        assert_slope(mean, parameter.value, gradient, rng, name)


LAYERS: list[tuple[Layer, tuple[int, ...]]] = [
    (Dense(3), (5,)),
    (Dense(40, bias=False), (1,)),
    (ReLU(), (6,)),
    (ReLU(), (2, 3, 4)),
    (Dropout(0.5), (7,)),
    (Dropout(0.3), (1, 4, 3)),
    (Flatten(), (2, 3, 4)),
    (Flatten(), (5,)),
    (BatchNorm(), (3,)),
    (BatchNorm(), (2, 3, 2)),
    (MaxPool(2), (2, 5, 4)),
    (MaxPool(1), (1, 3, 3)),
    (MaxPool(3), (1, 3, 3)),
    (GlobalAveragePool(), (3, 4, 2)),
    (Conv(3), (1, 5, 4)),
    (Conv(1, 1), (2, 1, 1)),
    (Conv(2, 5, 2, 2), (3, 6, 5)),
    (Conv(4, 3, 3, 0, bias=False), (1, 7, 3)),
    (Conv(2, 9), (2, 3, 3)),
    (Conv(1, 2, 5, 1), (1, 4, 1)),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_a_layer_alone_in_every_order(
    layer: Layer, shape: tuple[int, ...], n: int, training: bool
) -> None:
    randomness = Randomness.from_seed(n)
    output_shape = layer.build(shape, randomness, np.float64)
    n = max(n, layer.smallest_batch)
    rng = np.random.default_rng(n)
    for parameter in layer.parameters.values():
        parameter.value += 0.2 * rng.standard_normal(parameter.value.shape)
    state = randomness.state()
    for x_order in ORDERS:
        for dy_order in ORDERS:
            x = in_order(rng.standard_normal((n, *shape)), x_order)
            dy = in_order(rng.standard_normal((n, *output_shape)), dy_order)
            moving = np.array(x)

            def scalar(moving: Floats = moving, dy: Floats = dy) -> float:
                randomness.restore(state)
                return float((layer.forward(moving, training=training) * dy).sum())

            given = x.copy(), dy.copy()
            randomness.restore(state)
            layer.forward(x, training=training)
            dx = layer.backward(dy).copy()
            gradients = {name: p.gradient.copy() for name, p in layer.parameters.items()}
            assert np.array_equal(x, given[0]), "forward or backward wrote to its input"
            assert np.array_equal(dy, given[1]), "backward wrote to the gradient it was given"
            assert_slope(scalar, moving, dx, rng, f"dx, x {x_order}, dy {dy_order}")
            for name, parameter in layer.parameters.items():
                what = f"{name}, x {x_order}, dy {dy_order}"
                assert_slope(scalar, parameter.value, gradients[name], rng, what)


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_what_does_not_fit_is_refused(layer: Layer, shape: tuple[int, ...]) -> None:
    output_shape = layer.build(shape, Randomness.from_seed(0), np.float64)
    name = type(layer).__name__
    with pytest.raises(ValueError, match=f"{name}.*forward"):
        layer.backward(np.ones((4, *output_shape)))
    with pytest.raises(ValueError, match=f"{name} takes .*found"):
        layer.forward(np.ones((4, *shape, 2)), training=True)
    layer.forward(np.random.default_rng(0).standard_normal((4, *shape)), training=True)
    for wrong in ((3, *output_shape), (4, *output_shape, 1), (4, output_shape[0] + 1)):
        with pytest.raises(ValueError, match=f"{name}.*found"):
            layer.backward(np.ones(wrong))
