"""The independent proof of a gradient: central differences, in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.layers.base import Layer
from digitflow.tasks.nn.randomness import Randomness

Floats = NDArray[Any]


def central_difference(f: Callable[[], float], x: Floats, step: float = 1e-6) -> Floats:
    """Return df/dx, moving every number of `x` in place by ±step."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + step
        above = f()
        x[index] = kept - step
        below = f()
        x[index] = kept
        gradient[index] = (above - below) / (2 * step)
    return gradient


def relative_error(found: Floats, expected: Floats) -> float:
    scale = max(1e-3, float(np.abs(expected).max(initial=0)))
    return float(np.abs(found - expected).max(initial=0)) / scale


def built(layer: Layer, shape: tuple[int, ...], seed: int = 3) -> Layer:
    """Build `layer` in float64 and move its parameters off their special starting values."""
    layer.build(shape, Randomness.from_seed(seed), np.float64)
    rng = np.random.default_rng(seed)
    for parameter in layer.parameters.values():
        parameter.value += 0.1 * rng.standard_normal(parameter.value.shape)
    return layer


def assert_gradients_are_right(layer: Layer, x: Floats, *, training: bool = True) -> None:
    """Compare every gradient of `layer` at the batch `x` with central differences.

    The scalar that is differentiated is Σ direction · output for a random direction.
    """
    direction = np.random.default_rng(9).standard_normal(
        layer.forward(x.copy(), training=training).shape
    )

    def scalar() -> float:
        return float((direction * layer.forward(x.copy(), training=training)).sum())

    layer.forward(x.copy(), training=training)
    dx = layer.backward(direction.copy()).copy()
    found = {name: p.gradient.copy() for name, p in layer.parameters.items()}
    assert relative_error(dx, central_difference(scalar, x)) <= 1e-6
    for name, parameter in layer.parameters.items():
        expected = central_difference(scalar, parameter.value)
        assert found[name].shape == expected.shape
        assert relative_error(found[name], expected) <= 1e-6, name
