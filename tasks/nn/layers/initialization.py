"""How weights start.

The scale keeps the variance of activations and gradients from growing or shrinking with depth:
He for layers followed by ReLU, Glorot for linear ones. ``tutorial`` is the tutorial's uniform
distribution on [-0.1, 0.1).

Sources: He et al. 2015, arXiv:1502.01852, eq. 10; Glorot & Bengio 2010, eq. 16.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

Initializer = Callable[[np.random.Generator, tuple[int, ...], int, int], Floats]


def he(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Floats:
    """Draw from a normal distribution with standard deviation √(2 / fan_in)."""
    weights: Floats = rng.standard_normal(shape) * np.sqrt(2 / fan_in)
    return weights


def glorot(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Floats:
    """Draw from a uniform distribution on ±√(6 / (fan_in + fan_out))."""
    weights: Floats = rng.uniform(-1, 1, shape) * np.sqrt(6 / (fan_in + fan_out))
    return weights


def tutorial(rng: np.random.Generator, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Floats:
    """Draw from a uniform distribution on [-0.1, 0.1), whatever the fans."""
    return 0.2 * rng.random(shape) - 0.1


INITIALIZERS: dict[str, Initializer] = {"he": he, "glorot": glorot, "tutorial": tutorial}


def initializer(name: str) -> Initializer:
    """Return the initialiser called `name`; ValueError names the known ones."""
    if name not in INITIALIZERS:
        message = f"Unknown initialization {name!r}; known are {', '.join(INITIALIZERS)}."
        raise ValueError(message)
    return INITIALIZERS[name]
