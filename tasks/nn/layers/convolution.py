"""Convolution, max pooling and global average pooling of images (n, channels, height, width).

A convolution is made of matrix products, without the usual ninefold copy.

Images lie in memory as (height, channels, width, n). From them one array of *columns* is made
that holds, for each row of the padded input, the k shifted copies that a k wide kernel needs:
(padded height, k · channels, width out, n). For one row of the output the kernel covers k rows
of that array, which lie next to each other, so they are one matrix of k · k · channels rows as
they stand; the matrices of neighbouring output rows overlap. The copy is k-fold where im2col's
is k²-fold, and the products give the output in the order in which the next layer wants it.

The gradient in the input is the same operation on the output's gradient, with the kernel turned
by 180° and the roles of its input and output channels exchanged.
"""

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from digitflow.tasks.nn.layers.base import Floats, Layer, Parameter, Shape, refuse_shape
from digitflow.tasks.nn.layers.buffer import Buffer, as_images, in_memory_order
from digitflow.tasks.nn.layers.initialization import initializer
from digitflow.tasks.nn.randomness import Randomness

# OpenBLAS's limit for its way without copies (measured with 0.3.31, SkylakeX kernels); blocks
# narrower than MIN_BLOCK would lose more than they gain.
SMALL_PRODUCT = 1_000_000
MIN_BLOCK = 32


@dataclass
class Conv(Layer):
    """y[o] = b[o] + Σ over i, r, c of W[o, r, c, i] · x[i] shifted by (r, c).

    W has shape (outputs, kernel, kernel, inputs): a cross-correlation, as in every library.
    `padding` zeros are put around the image; ``None`` keeps height and width for stride 1.
    """

    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    bias: bool = True
    initialization: str = "he"

    def __post_init__(self) -> None:
        if self.padding is None:
            self.padding = self.kernel // 2
        least = min(self.outputs, self.kernel, self.stride)
        if least < 1 or not 0 <= self.padding < self.kernel:
            message = (
                "Conv takes outputs, kernel and stride ≥ 1 and 0 ≤ padding < kernel; found "
                f"kernel {self.kernel}, stride {self.stride}, padding {self.padding}, outputs "
                f"{self.outputs}."
            )
            raise ValueError(message)
        self._pad: int = self.padding

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise refuse_shape(self, "(channels, height, width)", shape)
        height, width = (self._length_out(length) for length in shape[1:])
        if min(height, width) < 1:
            expected = f"(channels, height, width), both ≥ {self.kernel - 2 * self._pad}"
            raise refuse_shape(self, expected, shape)
        return self.outputs, height, width

    def _length_out(self, length: int) -> int:
        return (length + 2 * self._pad - self.kernel) // self.stride + 1

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        channels, area = shape[0], self.kernel**2
        draw = initializer(self.initialization)
        kernels_shape = (self.outputs, self.kernel, self.kernel, channels)
        fans = channels * area, self.outputs * area
        kernels = draw(randomness.initialization, kernels_shape, *fans)
        self.kernels = Parameter(kernels.astype(dtype))
        self.parameters = {"kernels": self.kernels}
        if self.bias:
            self.biases = Parameter(np.zeros(self.outputs, dtype), decay=False)
            self.parameters["biases"] = self.biases
        self._columns, self._y, self._per_row = Buffer(), Buffer(), Buffer()
        self._dy_columns, self._turned, self._dx = Buffer(), Buffer(), Buffer()

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        n, channels, height, width = x.shape
        height_out, width_out = self._length_out(height), self._length_out(width)
        kernel, stride, pad = self.kernel, self.stride, self._pad

        shape = (height + 2 * pad, kernel, channels, width_out, n)
        columns = self._columns.shaped(shape, self._dtype)
        rows = in_memory_order(x)
        for shift in range(kernel):
            # Output column j sees input column j·stride + shift - pad; outside are zeros.
            out, seen = _matching(shift - pad, stride, width, width_out)
            columns[pad : pad + height, shift, :, out] = rows[:, :, seen]

        self._windows = _row_windows(columns, kernel, stride, height_out)
        y = self._y.shaped((height_out, self.outputs, width_out, n), self._dtype)
        matrix = self.kernels.value.reshape(self.outputs, -1)
        _multiply(matrix, self._windows, y.reshape(height_out, self.outputs, -1))
        if self.bias:
            y += self.biases.value[:, None, None]
        return as_images(y)

    def _backward(self, dy: Floats) -> Floats:
        gradient_rows = in_memory_order(dy)
        height_out, outputs, width_out, n = gradient_rows.shape
        matrices = gradient_rows.reshape(height_out, outputs, width_out * n)
        if self.bias:
            # A product with ones sums three times as fast as np.sum.
            ones = np.ones(width_out * n, self._dtype)
            np.sum(matrices @ ones, axis=0, out=self.biases.gradient)
        # dWᵀ = Σ over output rows of window · dyᵀ; the other way round takes 1.4 times as long.
        shape = (height_out, self._windows.shape[1], outputs)
        per_row = self._per_row.shaped(shape, self._dtype)
        np.matmul(self._windows, matrices.transpose(0, 2, 1), out=per_row)
        np.sum(per_row, axis=0, out=self.kernels.gradient.reshape(outputs, -1).T)
        if self.is_first:
            return dy
        return self._input_gradient(gradient_rows)

    def _input_gradient(self, gradient_rows: Floats) -> Floats:
        kernel, stride = self.kernel, self.stride
        channels, height, width = self._shape
        height_out, outputs, width_out, n = gradient_rows.shape
        # The output's gradient, its rows and columns `stride` apart, with zeros between and
        # around. Those are never written, so they stay from when the buffer was made.
        border = kernel - 1 - self._pad
        shape = (height + kernel - 1, kernel, outputs, width, n)
        columns = self._dy_columns.shaped(shape, self._dtype)
        filled = slice(border, border + (height_out - 1) * stride + 1, stride)
        for shift in range(kernel):
            # Input column c sees output column (c + shift - border) / stride.
            out, seen_by = _matching(border - shift, stride, width, width_out)
            columns[filled, shift, :, seen_by] = gradient_rows[:, :, out]
        turned = self._turned.shaped((channels, kernel, kernel, outputs), self._dtype)
        turned[...] = self.kernels.value[:, ::-1, ::-1].transpose(3, 1, 2, 0)
        windows = _row_windows(columns, kernel, 1, height)
        dx = self._dx.shaped((height, channels, width, n), self._dtype)
        _multiply(turned.reshape(channels, -1), windows, dx.reshape(height, channels, -1))
        return as_images(dx)


def _matching(offset: int, stride: int, width: int, width_out: int) -> tuple[slice, slice]:
    """Return all j below `width_out` whose j·stride + offset is one of `width` columns, and those.

    Where the image is narrower than the padding there may be none: both slices are then empty.
    """
    first = max(0, -(offset // stride))
    stop = min(width_out, (width - 1 - offset) // stride + 1)
    if first >= stop:
        return slice(0), slice(0)
    columns = slice(first * stride + offset, (stop - 1) * stride + offset + 1, stride)
    return slice(first, stop), columns


def _row_windows(columns: Floats, kernel: int, stride: int, height_out: int) -> Floats:
    """View `kernel` neighbouring rows of `columns` as one matrix, for each output row."""
    _, shifts, channels, width, n = columns.shape
    shape = (height_out, kernel * shifts * channels, width * n)
    # From the shape: NumPy leaves the stride of an axis of length 1 arbitrary.
    column = columns.itemsize * width * n
    strides = (stride * shifts * channels * column, column, columns.itemsize)
    return as_strided(columns, shape, strides, writeable=False)


def _multiply(matrix: Floats, windows: Floats, out: Floats) -> None:
    """Write ``matrix @ window`` to `out` for every window, in blocks of columns.

    OpenBLAS multiplies matrices with at most a million products between them as they are, and
    copies larger ones first; for the narrow matrices of a convolution that costs a quarter.
    """
    rows, depth = matrix.shape
    count, _, width = windows.shape
    block = _block(rows * depth, width)
    blocks = windows.reshape(count, depth, width // block, block).transpose(0, 2, 1, 3)
    out_blocks = out.reshape(count, rows, width // block, block).transpose(0, 2, 1, 3)
    np.matmul(matrix, blocks, out=out_blocks)


@cache
def _block(products_per_column: int, width: int) -> int:
    """Return the widest even division of `width` that stays below the limit, or all of it."""
    most = SMALL_PRODUCT // products_per_column
    fitting = [size for size in range(MIN_BLOCK, most + 1) if width % size == 0]
    return max(fitting, default=width)


@dataclass
class MaxPool(Layer):
    """The largest value of each `size` by `size` square; rows and columns left over are dropped.

    The gradient goes to the place that the value came from; among equals to the leftmost column,
    and in it to the uppermost.
    """

    size: int = 2

    def __post_init__(self) -> None:
        if self.size < 1:
            message = f"MaxPool takes size ≥ 1; found {self.size}."
            raise ValueError(message)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3 or min(shape[1:]) < self.size:
            raise refuse_shape(self, f"(channels, height, width), both ≥ {self.size}", shape)
        return shape[0], shape[1] // self.size, shape[2] // self.size

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._by_rows, self._y, self._d_rows, self._dx = (Buffer() for _ in range(4))
        self._row_masks, self._column_masks = Buffer(), Buffer()

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        # First over rows, whose pixels lie in long runs, then over columns of what is left.
        size = self.size
        n, channels, height, width = x.shape
        height_out, width_out = height // size, width // size
        rows = in_memory_order(x)[: height_out * size]
        rows = rows.reshape(height_out, size, channels, width, n)
        by_rows = self._by_rows.shaped((height_out, channels, width, n), self._dtype)
        self._row_wins = self._row_masks.shaped((size - 1, *by_rows.shape), np.bool_)
        _largest([rows[:, i] for i in range(size)], by_rows, self._row_wins)

        columns = by_rows[:, :, : width_out * size]
        columns = columns.reshape(height_out, channels, width_out, size, n)
        y = self._y.shaped((height_out, channels, width_out, n), self._dtype)
        self._column_wins = self._column_masks.shaped((size - 1, *y.shape), np.bool_)
        _largest([columns[:, :, :, i] for i in range(size)], y, self._column_wins)
        return as_images(y)

    def _backward(self, dy: Floats) -> Floats:
        size = self.size
        channels, height, width = self._shape
        d_out = in_memory_order(dy)
        height_out, _, width_out, n = d_out.shape
        d_rows = self._d_rows.shaped((height_out, channels, width, n), self._dtype)
        d_rows[:, :, width_out * size :] = 0
        columns = d_rows[:, :, : width_out * size]
        columns = columns.reshape(height_out, channels, width_out, size, n)
        _route(d_out, self._column_wins, [columns[:, :, :, i] for i in range(size)])

        dx = self._dx.shaped((height, channels, width, n), self._dtype)
        dx[height_out * size :] = 0
        rows = dx[: height_out * size].reshape(height_out, size, channels, width, n)
        _route(d_rows, self._row_wins, [rows[:, i] for i in range(size)])
        return as_images(dx)


def _largest(candidates: list[Floats], best: Floats, wins: Any) -> None:
    """Write the largest candidate to `best`; wins[i] says where candidate i + 1 beat those before.

    Among equals the first wins.
    """
    if len(candidates) == 1:
        best[...] = candidates[0]
        return
    so_far = candidates[0]
    for candidate, wins_here in zip(candidates[1:], wins, strict=True):
        np.greater(candidate, so_far, out=wins_here)
        np.maximum(so_far, candidate, out=best)
        so_far = best


def _route(gradient: Floats, wins: Any, places: list[Floats]) -> None:
    """Write `gradient` to the place that won and 0 to the others; undoes `_largest`."""
    rest = gradient
    for place, wins_here in zip(places[:0:-1], wins[::-1], strict=True):
        np.multiply(rest, wins_here, out=place)
        # Exact: what is subtracted is either the number itself or 0.
        rest = np.subtract(rest, place, out=places[0])
    if len(places) == 1:
        places[0][...] = gradient


@dataclass
class GlobalAveragePool(Layer):
    """The mean of each channel over all places: (n, channels, height, width) to (n, channels)."""

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3:
            raise refuse_shape(self, "(channels, height, width)", shape)
        return shape[:1]

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._y, self._dx = Buffer(), Buffer()

    def _forward(self, x: Floats, *, training: bool) -> Floats:
        y = self._y.shaped(x.shape[:2], self._dtype, "F")
        return np.mean(x, axis=(2, 3), out=y)

    def _backward(self, dy: Floats) -> Floats:
        dx = self._dx.images((len(dy), *self._shape), self._dtype)
        dx[...] = (dy / prod(self._shape[1:]))[:, :, None, None]
        return dx
