"""The contract that every layer keeps.

Shapes are the field's usual ones: a batch is ``(n, features)`` or
``(n, channels, height, width)``, and a *sample shape* is the same without ``n``. In which order
the numbers lie in memory is a layer's own business: images lie with the batch innermost,
``(height, channels, width, n)``, so that convolution and pooling work on long contiguous runs;
NumPy's element-wise functions follow whatever order they find.

Four rules make layers safe to combine, and the training loop free of allocation:

- a layer never writes to what it is given; it returns arrays in `Buffer`s of its own, which its
  next call fills again. They are made again only when the number of samples changes.
- `backward` uses what the last `forward` kept under a name, whatever the memory order of the
  gradient that it is given. What does not fit the last `forward` raises.
- what `forward` keeps may be its input itself, so that must stay as it is until `backward`.
- a gradient of a parameter is written, not added to.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from digitflow.tasks.nn.randomness import Randomness

Floats = NDArray[np.floating[Any]]
Shape = tuple[int, ...]


@dataclass
class Parameter:
    """Trainable numbers and their gradient, both views of the network's two long vectors.

    `decay` says whether weight decay applies: it does to weights, not to biases, scales and
    shifts, which do not make a function steeper.
    """

    value: Floats
    decay: bool = True
    gradient: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.gradient = np.zeros_like(self.value)


class Layer(ABC):
    """One step of a network.

    Attributes
    ----------
    parameters : dict[str, Parameter]
        Set by `build`; empty for layers that learn nothing.
    statistics : dict[str, NDArray]
        What is gathered in training and used in prediction but not trained by gradient.
    is_first : bool
        True if nothing before this layer learns: `backward` then returns the gradient that it was
        given, since nobody wants that of the input.
    smallest_batch : int
        Samples that `forward` needs in training; may be set by `build`.
    """

    parameters: dict[str, Parameter]
    statistics: dict[str, Floats]
    is_first: bool = False
    smallest_batch: int = 1

    def build(self, shape: Shape, randomness: Randomness, dtype: DTypeLike) -> Shape:
        """Create the parameters for samples of `shape`; return the sample shape of the output.

        Results have the given dtype, whatever that of the batches.

        Raises
        ------
        ValueError
            If samples of that shape cannot be taken.
        """
        self.parameters, self.statistics = {}, {}
        self._dtype, self._shape = np.dtype(dtype), shape
        self._output_shape: Shape = self.output_shape(shape)
        self._samples: int | None = None
        self._build(shape, randomness, self._dtype)
        return self._output_shape

    def forward(self, x: Floats, *, training: bool) -> Floats:
        """Return the output for the batch `x`.

        Raises
        ------
        ValueError
            If the samples have another shape than those that the layer was built for.
        """
        if x.shape[1:] != self._shape:
            raise refuse_shape(self, str(self._shape), x.shape[1:])
        self._samples = None
        y = self._forward(x, training=training)
        self._samples = len(x)
        return y

    def backward(self, dy: Floats) -> Floats:
        """Set the parameters' gradients from `dy`, dL/dy of the last `forward`; return dL/dx.

        Raises
        ------
        ValueError
            If there was no `forward`, or its output had another shape than `dy`.
        """
        if self._samples is None:
            message = f"{type(self).__name__} has no gradient before its first forward pass."
            raise ValueError(message)
        expected = (self._samples, *self._output_shape)
        if dy.shape != expected:
            message = (
                f"{type(self).__name__} takes the gradient of its last output, of shape "
                f"{expected}; found {dy.shape}."
            )
            raise ValueError(message)
        return self._backward(dy)

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's sample shape for the input's, or raise ValueError."""

    @abstractmethod
    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        """Create parameters, statistics and buffers for samples of `shape`."""

    @abstractmethod
    def _forward(self, x: Floats, *, training: bool) -> Floats:
        """Return the output, and keep what `_backward` needs."""

    @abstractmethod
    def _backward(self, dy: Floats) -> Floats:
        """Set the gradients of the parameters and return that of the input."""


def refuse_shape(layer: Layer, expected: str, shape: Shape) -> ValueError:
    """Return the error for a sample shape that `layer` cannot take."""
    name = type(layer).__name__
    return ValueError(f"{name} takes samples of shape {expected}; found {shape}.")
