"""Dense, ReLU, dropout and flatten."""

from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.nn.buffer import Buffer
from tasks.nn.initialization import initializer
from tasks.nn.layer import Floats, Layer, Parameter, Shape, refuse_shape
from tasks.nn.randomness import Randomness

# A softmax over 10 numbers side by side takes three times as long as one over 10 long rows, so
# narrow outputs lie with the batch innermost.
_NARROW = 32


@dataclass
class Dense(Layer):
    """Every output is a weighted sum of all inputs: y = x W + b.

    W has shape (inputs, outputs), b (outputs,).
    """

    outputs: int
    bias: bool = True
    initialization: str = "he"

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

        self._y, self._dy, self._ones = Buffer(), Buffer(), np.ones(0, dtype)

    def forward(self, x: Floats, *, training: bool) -> Floats:
        self._x = x
        order: Literal["C", "F"] = "F" if self.outputs <= _NARROW else "C"
        y = self._y.shaped((len(x), self.outputs), x.dtype, order)
        np.matmul(x, self.weights.value, out=y)
        if self.bias:
            y += self.biases.value
        return y

    def backward(self, dy: Floats) -> Floats:
        # y = x W + b:  dW = xᵀ dy,  db = Σ dy over the batch,  dx = dy Wᵀ.
        np.matmul(self._x.T, dy, out=self.weights.gradient)
        if self.bias:
            # A product with ones sums twice as fast as dy.sum(axis=0).
            if len(self._ones) != len(dy):
                self._ones = np.ones(len(dy), dy.dtype)
            np.matmul(self._ones, dy, out=self.biases.gradient)
        if self.is_first:
            return dy
        if self.outputs <= _NARROW:
            # Two transposed operands would take four times as long as a copy and one.
            dy_rows = self._dy.shaped(dy.shape, dy.dtype)
            dy_rows[...] = dy
            dy = dy_rows
        return np.matmul(dy, self.weights.value.T, out=self._x)


@dataclass
class ReLU(Layer):
    """y = max(x, 0), in place; the gradient at 0 is 0."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._active, self._zeros = Buffer(), Buffer()

    def forward(self, x: Floats, *, training: bool) -> Floats:
        np.greater(x, 0, out=self._active.like(x, bool))
        # NumPy compares two arrays seven times as fast as an array and a number.
        np.maximum(x, self._zeros.like(x), out=x)
        return x

    def backward(self, dy: Floats) -> Floats:
        dy *= self._active.like(dy, bool)
        return dy


@dataclass
class Dropout(Layer):
    """Set each value to 0 with probability `rate` in training, and scale the rest by 1/(1-rate).

    The expected value stays the same, so prediction leaves everything as it is. `rate` is
    realised in steps of 1/65,536. Source: Srivastava et al. 2014, JMLR 15, section 10 (inverted).
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            message = f"The dropout rate must be at least 0 and less than 1; found {self.rate}."
            raise ValueError(message)

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._bits, self._keep = randomness.dropout.bit_generator, Buffer()
        self._scale = dtype.type(1 / (1 - self.rate))

    def forward(self, x: Floats, *, training: bool) -> Floats:
        if not training or self.rate == 0:
            return x
        keep = self._keep.like(x)
        np.multiply(self._draw(x.size), self._scale, out=keep.ravel(order="K"))
        x *= keep
        return x

    def backward(self, dy: Floats) -> Floats:
        if self.rate == 0:
            return dy
        dy *= self._keep.like(dy)
        return dy

    def _draw(self, size: int) -> NDArray[Any]:
        """Draw which values stay (1 or True), from the generator's raw bits."""
        if self.rate == 0.5:
            return np.unpackbits(self._bits.random_raw(ceil(size / 64)).view(np.uint8), count=size)
        levels = self._bits.random_raw(ceil(size / 4)).view(np.uint16)[:size]
        return levels >= round(self.rate * 65536)


@dataclass
class Flatten(Layer):
    """Make (n, features) of (n, channels, height, width), without moving a number.

    The features come in the order (height, channels, width), as the images lie in memory.
    """

    def output_shape(self, shape: Shape) -> Shape:
        return (prod(shape),)

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        pass

    def forward(self, x: Floats, *, training: bool) -> Floats:
        self._shape = x.shape
        if x.ndim == 4:
            x = x.transpose(0, 2, 1, 3)
        return np.reshape(x, (len(x), -1), copy=False)

    def backward(self, dy: Floats) -> Floats:
        if len(self._shape) != 4:
            return dy.reshape(self._shape)
        n, channels, height, width = self._shape
        return np.reshape(dy, (n, height, channels, width), copy=False).transpose(0, 2, 1, 3)
