"""Max pooling and global average pooling of images (n, channels, height, width)."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from digitflow.tasks.nn.buffer import Buffer, as_images, in_memory_order
from digitflow.tasks.nn.layer import Floats, Layer, Shape, refuse_shape
from digitflow.tasks.nn.randomness import Randomness


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
