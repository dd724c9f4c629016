"""From stored images to what a network takes in."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from digitflow.tasks.nn.layers.buffer import Buffer

Rows = NDArray[np.intp]
Augmentation = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

# A smaller array is read through its map, which takes no call a row; all of MNIST is smaller.
MAPPED = 64 * 1024**2  # bytes

# Of training images, drawn: the mean of more is the same to three digits.
_MEASURED_PIXELS, _MEASURED_AT_ONCE = 8_000_000, 256


class Feed:
    """Gathers images, scales uint8 to 0…1 and standardises, a batch at a time.

    The images stay where they are, on the disk as a memory map if that is what they are (of a
    large one the rows are read from its file: see `FileRows`): only the batch is ever copied, as
    bytes first, since gathering a quarter of the size and then converting takes half the time.

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
    inverted : bool
        The images are dark on light: take them as light on dark, as augmentation does, which fills
        with 0.
    mean, deviation : float
        What is subtracted from the scaled pixels, and what they are divided by.

    Raises
    ------
    ValueError
        If an image does not have as many pixels as the network has inputs, or the pixels are
        whole numbers of another kind, whose scale nobody knows.
    """

    def __init__(
        self,
        images: NDArray[Any],
        input_shape: tuple[int, ...],
        dtype: DTypeLike,
        augment: Augmentation | None = None,
        *,
        inverted: bool = False,
        mean: float = 0.0,
        deviation: float = 1.0,
    ) -> None:
        if prod(images.shape[1:]) != prod(input_shape):
            message = (
                f"The network takes samples of shape {input_shape}; images of shape "
                f"{images.shape[1:]} have another number of pixels."
            )
            raise ValueError(message)
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            message = (
                "The network takes pixels as uint8 from 0 to 255 or as floats from 0 to 1; found "
                f"{images.dtype}. Convert them: images.astype(np.uint8)."
            )
            raise ValueError(message)
        # A plain view: NumPy's subclass for memory maps is slower to index.
        self._images = np.asarray(images)
        self._file = file_rows(images)
        self._input_shape, self._dtype, self._augment = input_shape, np.dtype(dtype), augment
        self._inverted, self._white = inverted, 255 if images.dtype == np.uint8 else 1
        self._scale = (1 / 255 if images.dtype == np.uint8 else 1.0) / deviation
        self._offset = mean / deviation
        self._gathered, self._x = Buffer(), Buffer()

    def __len__(self) -> int:
        return len(self._images)

    def load(self, rows: Rows | slice) -> NDArray[Any]:
        """Return the network's input for these images, in a buffer that is used again."""
        images = self.gather(rows)
        if self._inverted:
            images = self._white - images
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
        if self._offset:
            x -= self._offset
        return x

    def gather(self, rows: Rows | slice) -> NDArray[Any]:
        """Return these images as they are stored, in a buffer that is used again or as a view."""
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


def mean_and_deviation(
    images: NDArray[np.uint8], rows: Rows, *, inverted: bool = False
) -> tuple[float, float]:
    """Return the mean and the standard deviation of the pixels that a network learns from.

    Counted in whole numbers, so that inverted images have the very same two. Where all pixels are
    as good as equal there is nothing to scale, and the deviation is 1.

    Parameters
    ----------
    images : NDArray[uint8], shape (n, height, width)
        May be a memory map, of which at most `_MEASURED_PIXELS` are read, of rows drawn.
    rows : NDArray[int]
        Of those that are learnt from.
    inverted : bool
        The images are dark on light, and are measured as if they were light on dark.

    Returns
    -------
    mean, deviation : float
        Of pixels from 0 to 1.
    """
    pixels = prod(images.shape[1:])
    most = max(1, _MEASURED_PIXELS // pixels)
    taken = np.sort(rows)
    if len(rows) > most:  # drawn: data may lie in an order that every n-th row falls in with
        drawn = np.random.default_rng(len(rows)).choice(len(rows), most, replace=False)
        taken = taken[np.sort(drawn)]
    feed = Feed(images, (pixels,), np.uint8)
    counts = np.zeros(256, np.int64)
    for start in range(0, len(taken), _MEASURED_AT_ONCE):
        part = feed.gather(taken[start : start + _MEASURED_AT_ONCE])
        counts += np.bincount(part.ravel(), minlength=256)
    levels = np.arange(256)[:: -1 if inverted else 1]
    total, squares, count = (int(counts @ each) for each in (levels, levels**2, levels**0))
    mean, variance = total / count, (count * squares - total**2) / count**2
    return mean / 255, sqrt(variance) / 255 if variance >= 0.01 else 1.0


def check_examples(name: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
    """Refuse images and labels that do not fit each other.

    Parameters
    ----------
    name : str
        Which set they are, for messages.
    images : NDArray[uint8], shape (n, height, width)
        At least one image.
    labels : NDArray[int], shape (n,)
        Whole numbers from 0.

    Raises
    ------
    ValueError
        If they are not that.
    """
    if images.ndim != 3 or images.dtype != np.uint8 or labels.shape != (len(images),):
        message = (
            f"The {name} images should be uint8 of shape (n, height, width) and the labels of "
            f"shape (n,); found {images.dtype} {images.shape} and {labels.shape}."
        )
        raise ValueError(message)
    if not len(images) or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        message = (
            f"The {name} labels should be whole numbers from 0, at least one; found "
            f"{labels.dtype} {labels.shape}."
        )
        raise ValueError(message)


def count_classes(classes: int | None, *labels: NDArray[np.integer[Any]]) -> int:
    """Return `classes`, or as many as the largest of the first labels says, and at least 2.

    Raises
    ------
    ValueError
        If a label is too large for that number of classes.
    """
    if classes is None:
        classes = max(2, int(labels[0].max()) + 1)
    largest = max(int(each.max()) for each in labels)
    if largest >= classes:
        message = f"With {classes} classes, labels go up to {classes - 1}; found {largest}."
        raise ValueError(message)
    return classes


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


class FileRows:
    """Reads rows of a C-contiguous array that lies in a file and is larger than memory should be.

    What is read through a memory map counts as memory of this process until the system needs it
    for something else. An epoch reads everything, so a training would grow to the size of its data,
    and a limit on its memory (of a container, of a batch system) would end it. What is read from
    the file into a buffer does not count; it lies in the system's page cache all the same.

    Parameters
    ----------
    array : memmap, shape (n, …)
        Map of the file; only its address and shape are used.
    """

    def __init__(self, array: np.memmap[Any, Any]) -> None:
        base = array
        while isinstance(base.base, np.memmap):
            base = base.base
        self._start = base.offset + array.ctypes.data - base.ctypes.data
        self._row_size = array[:1].nbytes
        self._file = os.open(str(array.filename), os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._out: NDArray[Any] | None = None
        self._parts: list[memoryview] = []

    def take(self, rows: NDArray[np.intp], out: NDArray[Any]) -> None:
        """Read some of the rows into `out`, shape (len(rows), …), C-contiguous.

        Raises
        ------
        OSError
            If the file ends before one of them.
        """
        if out is not self._out:
            flat, size = out.data.cast("B"), self._row_size
            self._parts = [flat[i * size : (i + 1) * size] for i in range(len(out))]
            self._out = out
        read = 0
        for part, place in zip(
            self._parts, (rows * self._row_size + self._start).tolist(), strict=True
        ):
            read += os.preadv(self._file, (part,), place)
        self._check(read, out)

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Read the rows from `start` on into `out`; otherwise as `take`."""
        view, read = out.data.cast("B"), 0
        while read < len(view):
            place = self._start + start * self._row_size + read
            count = os.preadv(self._file, (view[read:],), place)
            if not count:
                break
            read += count
        self._check(read, out)

    def _check(self, read: int, out: NDArray[Any]) -> None:
        if read != out.nbytes:
            message = f"expected {out.nbytes:,} bytes of rows, found {read:,}: the file was cut off"
            raise OSError(errno.EIO, message)


def file_rows(array: NDArray[Any]) -> FileRows | None:
    """Return what reads the rows of a large memory map, or None for any other array.

    A map that can be written to may hold what its file does not, and counts as another array.
    """
    if (
        not isinstance(array, np.memmap)
        or array.mode != "r"
        or array.filename is None
        or array.nbytes <= MAPPED
        or not array.flags.c_contiguous
        or not hasattr(os, "preadv")
    ):
        return None
    return FileRows(array)
