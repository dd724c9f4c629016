"""From stored images to what a network takes in."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from digitflow.tasks.nn.buffer import Buffer
from digitflow.tasks.nn.file_rows import file_rows

Rows = NDArray[np.intp]
Augmentation = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


class Feed:
    """Gathers images and scales uint8 to 0…1, a batch at a time.

    The images stay where they are, on the disk as a memory map if that is what they are (of a
    large one the rows are read from its file: see `tasks.nn.file_rows`): only the batch is ever
    copied, as bytes first, since gathering a quarter of the size and then
    converting takes half the time.

    Parameters
    ----------
    images : NDArray, shape (n, height, width) or (n, pixels)
        uint8 from 0 to 255, or floats that are taken as they are.
    input_shape : tuple[int, ...]
        The network's: ``(pixels,)`` or ``(channels, height, width)``.
    dtype : dtype
        Of the network.
    augment : callable, optional
        Takes and returns uint8 images (n, height, width).

    Raises
    ------
    ValueError
        If an image does not have as many pixels as the network has inputs.
    """

    def __init__(
        self,
        images: NDArray[Any],
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        augment: Augmentation | None = None,
    ) -> None:
        if prod(images.shape[1:]) != prod(input_shape):
            message = (
                f"The network takes samples of shape {input_shape}; images of shape "
                f"{images.shape[1:]} have another number of pixels."
            )
            raise ValueError(message)
        # A plain view: NumPy's subclass for memory maps is slower to index.
        self._images = np.asarray(images)
        self._file = file_rows(images)
        self._input_shape, self._dtype, self._augment = input_shape, np.dtype(dtype), augment
        self._scale = 1 / 255 if images.dtype == np.uint8 else 1.0
        self._gathered, self._x = Buffer(), Buffer()

    def __len__(self) -> int:
        return len(self._images)

    def load(self, rows: Rows | slice) -> NDArray[Any]:
        """Return the network's input for these images, in a buffer that is used again."""
        images = self._gather(rows)
        if self._augment is not None:
            images = self._augment(images)
        n = len(images)
        if len(self._input_shape) == 3:
            x = self._x.images((n, *self._input_shape), self._dtype)
        else:
            x = self._x.shaped((n, *self._input_shape), self._dtype)
        images = images.reshape(x.shape)
        np.copyto(x, images)
        if self._scale != 1:
            x *= self._scale
        return x

    def _gather(self, rows: Rows | slice) -> NDArray[Any]:
        """Return these images as they are stored, in a buffer or as a view."""
        if isinstance(rows, slice):
            if self._file is None:
                return self._images[rows]
            start, stop, _ = rows.indices(len(self._images))
            images = self._gathered.shaped(
                (stop - start, *self._images.shape[1:]), self._images.dtype
            )
            self._file.read(start, images)
            return images
        images = self._gathered.shaped((len(rows), *self._images.shape[1:]), self._images.dtype)
        if self._file is None:
            # mode="clip" lets take write into `out` without a copy in between.
            self._images.take(rows, axis=0, out=images, mode="clip")
        else:
            self._file.take(rows, images)
        return images


def batch_edges(n: int, batch_size: int, smallest: int = 1) -> list[int]:
    """Return where batches of `n` examples begin, and `n`.

    The last batch holds what is left over; if that is less than `smallest`, it joins the batch
    before it.
    """
    edges = [*range(0, n, batch_size), n]
    if len(edges) > 2 and edges[-1] - edges[-2] < smallest:
        del edges[-2]
    return edges


def shuffled(edges: list[int], rng: np.random.Generator) -> Iterator[Rows]:
    """Yield the numbers below the last of `edges` in random order, from edge to edge."""
    order = rng.permutation(edges[-1])
    for start, stop in pairwise(edges):
        yield order[start:stop]
