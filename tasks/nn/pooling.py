"""Max pooling and global average pooling of images (n, channels, height, width)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.nn.buffer import Buffer, as_images, in_memory_order
from tasks.nn.layer import Floats, Layer, Shape, refuse_shape
from tasks.nn.randomness import Randomness


@dataclass
class MaxPool(Layer):
    """The largest value of each `size` by `size` square; rows and columns left over are dropped.

    The gradient goes to the place that the value came from; among equals to the leftmost column,
    and in it to the uppermost.
    """

    size: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 3 or min(shape[1:]) < self.size:
            raise refuse_shape(self, f"(channels, height, width), both ≥ {self.size}", shape)
        return shape[0], shape[1] // self.size, shape[2] // self.size

    def _build(self, shape: Shape, randomness: Randomness, dtype: np.dtype[Any]) -> None:
        self._by_rows, self._row_wins, self._y, self._column_wins = (Buffer() for _ in range(4))
        self._dx = Buffer()

    def forward(self, x: Floats, *, training: bool) -> Floats:
        # First over rows, whose pixels lie in long runs, then over columns of what is left.
        self._x, size = x, self.size
        n, channels, height, width = x.shape
        height, width = height // size, width // size
        rows = in_memory_order(x)[: height * size]
        rows = rows.reshape(height, size, *rows.shape[1:])
        by_rows = self._by_rows.shaped((height, channels, x.shape[3], n), x.dtype)
        row_wins = self._row_wins.shaped((size - 1, *by_rows.shape), np.bool_)
        _largest([rows[:, i] for i in range(size)], by_rows, row_wins)

        columns = by_rows[:, :, : width * size].reshape(height, channels, width, size, n)
        y = self._y.shaped((height, channels, width, n), x.dtype)
        column_wins = self._column_wins.shaped((size - 1, *y.shape), np.bool_)
        _largest([columns[:, :, :, i] for i in range(size)], y, column_wins)
        return as_images(y)

    def backward(self, dy: Floats) -> Floats:
        size = self.size
        dx = in_memory_order(self._x)
        if not dx.flags.c_contiguous:
            dx = self._dx.shaped(dx.shape, dy.dtype)
        d_out = in_memory_order(dy)
        height, channels, width, n = d_out.shape
        d_rows = self._by_rows.shaped((height, channels, dx.shape[2], n), dy.dtype)
        d_rows[:, :, width * size :] = 0
        columns = d_rows[:, :, : width * size].reshape(height, channels, width, size, n)
        column_wins = self._column_wins.shaped((size - 1, *d_out.shape), np.bool_)
        _route(d_out, column_wins, [columns[:, :, :, i] for i in range(size)])

        dx[height * size :] = 0
        rows = dx[: height * size].reshape(height, size, *dx.shape[1:])
        row_wins = self._row_wins.shaped((size - 1, *d_rows.shape), np.bool_)
        _route(d_rows, row_wins, [rows[:, i] for i in range(size)])
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
        self._y = Buffer()

    def forward(self, x: Floats, *, training: bool) -> Floats:
        self._x = x
        y = self._y.shaped(x.shape[:2], x.dtype, "F")
        return np.mean(x, axis=(2, 3), out=y)

    def backward(self, dy: Floats) -> Floats:
        self._x[...] = (dy / (self._x.shape[2] * self._x.shape[3]))[:, :, None, None]
        return self._x
