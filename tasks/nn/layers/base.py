"""The contract that every layer keeps; dense layers, ReLU, dropout and flatten.

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
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from digitflow.tasks.nn.layers.buffer import Buffer, Order, in_memory_order
from digitflow.tasks.nn.layers.initialization import initializer
from digitflow.tasks.nn.randomness import Randomness

Floats = NDArray[np.floating[Any]]
Shape = tuple[int, ...]

# A softmax over 10 numbers side by side takes three times as long as one over 10 long rows, so
# narrow outputs lie with the batch innermost.
_NARROW = 32

# Of dropout's rate: how many numbers 16 random bits tell apart.
LEVELS = 65_536


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
            If the samples have another shape than those that the layer was built for, or there
            is none.
        """
        if x.shape[1:] != self._shape:
            raise refuse_shape(self, str(self._shape), x.shape[1:])
        if not len(x):
            message = f"{type(self).__name__} takes a batch of at least one sample; found none."
            raise ValueError(message)
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


@dataclass
class Dense(Layer):
    """Every output is a weighted sum of all inputs: y = x W + b.

    W has shape (inputs, outputs), b (outputs,).
    """

    outputs: int
    bias: bool = True
    initialization: str = "he"

    def __post_init__(self) -> None:
        if self.outputs < 1:
            message = f"Dense takes outputs ≥ 1; found {self.outputs}."
            raise ValueError(message)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise refuse_shape(self, "(features,); put a Flatten before it", shape)
        return (self.outputs,)

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        draw = initializer(self.initialization)
        weights_shape = (shape[0], self.outputs)
        weights = draw(randomness.initialization, weights_shape, *weights_shape)
        self.weights = Parameter(weights.astype(dtype))
        self.parameters = {"weights": self.weights}
        if self.bias:
            self.biases = Parameter(np.zeros(self.outputs, dtype), decay=False)
            self.parameters["biases"] = self.biases

        self._y, self._dy, self._dx = Buffer(), Buffer(), Buffer()
        self._ones = np.ones(0, dtype)

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        self._x = x
        order: Order = "F" if self.outputs <= _NARROW else "C"
        y = self._y.shaped((len(x), self.outputs), self._dtype, order)
        np.matmul(x, self.weights.value, out=y)
        if self.bias:
            y += self.biases.value
        return y

    def _backward(self, dy: Floats) -> Floats:
        # y = x W + b:  dW = xᵀ dy,  db = Σ dy over the batch,  dx = dy Wᵀ.
        np.matmul(self._x.T, dy, out=self.weights.gradient)
        if self.bias:
            # A product with ones sums twice as fast as dy.sum(axis=0).
            if len(self._ones) != len(dy):
                self._ones = np.ones(len(dy), self._dtype)
            np.matmul(self._ones, dy, out=self.biases.gradient)
        if self.is_first:
            return dy
        if self.outputs <= _NARROW:
            # Two transposed operands would take four times as long as a copy and one.
            rows = self._dy.shaped(dy.shape, self._dtype)
            rows[...] = dy
            dy = rows
        return np.matmul(dy, self.weights.value.T, out=self._dx.like(self._x, self._dtype))


@dataclass
class ReLU(Layer):
    """y = max(x, 0); the gradient at 0 is 0."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._mask, self._y, self._dx = Buffer(), Buffer(), Buffer()

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        self._active = np.greater(x, 0, out=self._mask.like(x, np.bool_))
        y = self._y.like(x, self._dtype)
        np.maximum(x, 0, out=y)
        return y

    def _backward(self, dy: Floats) -> Floats:
        dx = self._dx.like(dy, self._dtype)
        np.multiply(dy, self._active, out=dx)
        return dx


@dataclass
class Dropout(Layer):
    """Set each value to 0 with probability `rate` in training, and scale the rest by 1/(1-rate).

    The expected value stays the same, so prediction leaves everything as it is. `rate` is
    realised in steps of 1/65,536, and the scale is that of the realised rate. Source: Srivastava
    et al. 2014, JMLR 15, section 10 (inverted).
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            message = f"The dropout rate must be at least 0 and less than 1; found {self.rate}."
            raise ValueError(message)
        # At least one level stays, so that no rate below 1 drops everything.
        self._dropped = min(round(self.rate * LEVELS), LEVELS - 1)

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._bits = randomness.dropout.bit_generator
        self._mask, self._y, self._dx = Buffer(), Buffer(), Buffer()
        self._scale = dtype.type(LEVELS / (LEVELS - self._dropped))

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        self._keep: Floats | None = None
        if not training or not self._dropped:
            return x
        if x.ndim == 4:
            self._keep = self._mask.images(x.shape, self._dtype)
            lying = in_memory_order(self._keep)
        else:
            self._keep = lying = self._mask.shaped(x.shape, self._dtype)
        np.multiply(self._draw(x.size), self._scale, out=np.reshape(lying, -1, copy=False))
        y = self._y.like(x, self._dtype)
        np.multiply(x, self._keep, out=y)
        return y

    def _backward(self, dy: Floats) -> Floats:
        if self._keep is None:
            return dy
        dx = self._dx.like(dy, self._dtype)
        np.multiply(dy, self._keep, out=dx)
        return dx

    def _draw(self, size: int) -> NDArray[Any]:
        """Draw which values stay (1 or True), from the generator's raw bits."""
        if 2 * self._dropped == LEVELS:
            return np.unpackbits(self._bits.random_raw(ceil(size / 64)).view(np.uint8), count=size)
        levels = self._bits.random_raw(ceil(size / 4)).view(np.uint16)[:size]
        return levels >= self._dropped


@dataclass
class Flatten(Layer):
    """Make (n, features) of (n, channels, height, width), without moving a number.

    The features come in the order (height, channels, width), as the images lie in memory; those
    of samples of any other number of axes in the order of the axes.
    """

    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        pass

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        return (x.transpose(0, 2, 1, 3) if x.ndim == 4 else x).reshape(len(x), -1)

    def _backward(self, dy: Floats) -> Floats:
        if len(self._shape) != 3:
            return dy.reshape(len(dy), *self._shape)
        channels, height, width = self._shape
        return dy.reshape(len(dy), height, channels, width).transpose(0, 2, 1, 3)
