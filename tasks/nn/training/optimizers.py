"""How a gradient moves the parameters.

An optimiser sees the whole network as one long vector and its gradient as another, and does
`step` on both in place. It works through them in pieces that stay in the processor's cache: a
step makes several passes over the same numbers, and only the first should come from memory.

The first `decayed` numbers are the weights, which weight decay pulls towards 0; the rest are
biases, scales and shifts.
"""

from abc import ABC, abstractmethod
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.layers.buffer import aligned

Vector = NDArray[np.floating[Any]]

# Bytes that one piece of all vectors takes together: half of a 1 MB second-level cache.
PIECE_BYTES = 512 * 1024


class Optimizer(ABC):
    """The contract: `prepare` once, then `step` after every batch.

    Attributes
    ----------
    weight_decay : float
        Strength λ of the pull towards 0.
    steps : int
        Steps taken so far.
    state : dict[str, NDArray]
        Vectors as long as the parameters that a checkpoint must keep.
    """

    names: tuple[str, ...] = ()

    def __init__(self, weight_decay: float = 0.0) -> None:
        self.weight_decay = weight_decay
        self.steps = 0
        self.state: dict[str, Vector] = {}

    def prepare(self, size: int, decayed: int, dtype: Any) -> None:
        """Start afresh for `size` parameters, the first `decayed` of which are weights."""
        self.steps = 0
        self.state = {name: aligned((size,), dtype) for name in self.names}
        vectors = 2 + len(self.names)  # values, gradients, state
        piece = PIECE_BYTES // (vectors * np.dtype(dtype).itemsize)
        self._work = aligned((piece,), dtype)
        edges = [*range(0, decayed, piece), *range(decayed, size, piece), size]
        self._pieces = [
            (slice(start, stop), self.weight_decay if start < decayed else 0.0)
            for start, stop in zip(edges[:-1], edges[1:], strict=True)
        ]

    def step(self, values: Vector, gradients: Vector, learning_rate: float) -> None:
        """Move `values` against `gradients`, which may be overwritten."""
        self.steps += 1
        for piece, decay in self._pieces:
            state = [vector[piece] for vector in self.state.values()]
            value = values[piece]
            self._move(value, gradients[piece], state, learning_rate, decay)

    @abstractmethod
    def _move(
        self, value: Vector, gradient: Vector, state: list[Vector], rate: float, decay: float
    ) -> None:
        """Do one step on one piece."""

    def _scratch(self, like: Vector) -> Vector:
        return self._work[: len(like)]


class SGD(Optimizer):
    """v ← μ v + g;  w ← w - η v, or with Nesterov  w ← w - η (g + μ v).

    The gradient g includes λ w. Source: Sutskever et al. 2013, in the form without the learning
    rate inside v, which PyTorch uses as well.
    """

    def __init__(
        self, momentum: float = 0.0, *, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(weight_decay)
        self.momentum, self.nesterov = momentum, nesterov
        if momentum:
            self.names = ("velocity",)

    def _move(
        self, value: Vector, gradient: Vector, state: list[Vector], rate: float, decay: float
    ) -> None:
        if decay:
            gradient += np.multiply(value, decay, out=self._scratch(value))
        direction = gradient
        if state:
            (velocity,) = state
            velocity *= self.momentum
            velocity += gradient
            if self.nesterov:
                gradient += np.multiply(velocity, self.momentum, out=self._scratch(value))
            else:
                direction = velocity
        value -= np.multiply(direction, rate, out=gradient)


class Adam(Optimizer):
    """m and v are running means of g and g²; w ← w - η m̂ / (√v̂ + ε), g including λ w.

    The hats undo the bias towards the zeros that m and v start with. Source: Kingma & Ba 2015,
    arXiv:1412.6980, algorithm 1. The state holds m / (1 - β₁) and v / (1 - β₂), which saves a
    quarter of the passes; the constant factors come back in with η.
    """

    names = ("first_moment", "second_moment")

    def __init__(
        self,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(weight_decay)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon

    def _move(
        self, value: Vector, gradient: Vector, state: list[Vector], rate: float, decay: float
    ) -> None:
        scratch = self._scratch(value)
        if decay:
            self._decay(value, gradient, rate, decay, scratch)
        first, second = state
        first *= self.beta_1
        first += gradient
        gradient *= gradient
        second *= self.beta_2
        second += gradient
        # √v̂ is `root` times √second; the step is multiplied through with 1 / root.
        root = sqrt((1 - self.beta_2) / (1 - self.beta_2**self.steps))
        np.sqrt(second, out=scratch)
        scratch += self.epsilon / root
        np.divide(first, scratch, out=scratch)
        scratch *= rate * (1 - self.beta_1) / (1 - self.beta_1**self.steps) / root
        value -= scratch

    def _decay(
        self, value: Vector, gradient: Vector, rate: float, decay: float, scratch: Vector
    ) -> None:
        gradient += np.multiply(value, decay, out=scratch)


class AdamW(Adam):
    """Adam whose decay acts on the weights themselves: w ← w - η λ w before the step.

    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2.
    """

    def _decay(
        self, value: Vector, gradient: Vector, rate: float, decay: float, scratch: Vector
    ) -> None:
        value *= 1 - rate * decay


def clip_gradient(gradients: Vector, largest_norm: float) -> float:
    """Scale `gradients` in place so that its Euclidean norm is at most `largest_norm`.

    Returns the norm before. Source: Pascanu et al. 2013, arXiv:1211.5063, algorithm 1.
    """
    norm = gradient_norm(gradients)
    if norm > largest_norm:
        gradients *= largest_norm / norm
    return norm


def gradient_norm(gradients: Vector) -> float:
    """Return the Euclidean norm."""
    return float(np.sqrt(np.dot(gradients, gradients)))
