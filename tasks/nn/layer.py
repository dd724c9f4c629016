"""The contract that every layer keeps.

Shapes are the field's usual ones: a batch is ``(n, features)`` or
``(n, channels, height, width)``, and a *sample shape* is the same without ``n``. In which order
the numbers lie in memory is a layer's own business: images lie with the batch innermost,
``(height, channels, width, n)``, so that convolution and pooling work on long contiguous runs;
NumPy's element-wise functions follow whatever order they find.

Three rules keep the training loop free of allocation:

- results go into a `Buffer` of the layer's own, which is made again only when the batch size
  changes.
- `forward` may overwrite its input, `backward` may overwrite the gradient it is given and may
  write the gradient it returns into the memory of the input that `forward` saw. What a layer
  needs from one call to the next lies in buffers of its own.
- a gradient of a parameter is written, not added to.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tasks.nn.randomness import Randomness

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
        True if nothing before this layer learns, so that its input's gradient is not wanted.
    """

    parameters: dict[str, Parameter]
    statistics: dict[str, Floats]
    is_first: bool = False

    def build(self, shape: Shape, randomness: Randomness, dtype: DTypeLike) -> Shape:
        """Create the parameters for samples of `shape`; return the shape of the output.

        Raises
        ------
        ValueError
            If samples of that shape cannot be taken.
        """
        self.parameters, self.statistics = {}, {}
        output_shape = self.output_shape(shape)
        self._build(shape, randomness, np.dtype(dtype))
        return output_shape

    @abstractmethod
    def output_shape(self, shape: Shape) -> Shape:
        """Return the output's sample shape for the input's, or raise ValueError."""

    @abstractmethod
    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        """Create parameters, statistics and buffers for samples of `shape`."""

    @abstractmethod
    def forward(self, x: Floats, *, training: bool) -> Floats:
        """Return the output for the batch `x`."""

    @abstractmethod
    def backward(self, dy: Floats) -> Floats:
        """Take dL/dy for the last `forward`, set the parameters' gradients, return dL/dx."""


def refuse_shape(layer: Layer, expected: str, shape: Shape) -> ValueError:
    """Return the error for a sample shape that `layer` cannot take."""
    name = type(layer).__name__
    return ValueError(f"{name} takes samples of shape {expected}; found {shape}.")
