"""The IDX format of the MNIST files: strict reading, deterministic writing.

Two zero bytes, a type code, the number of dimensions; each dimension as a big-endian unsigned
32-bit integer; then the data, big-endian, the last dimension running fastest. Source: "The IDX
file format" at the foot of http://yann.lecun.com/exdb/mnist/. Files are commonly gzipped.
"""

import gzip
import math
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from digitflow.tasks.data.idx.header import (
    MAX_BYTES,
    MAX_DIMENSIONS,
    TYPE_CODES,
    TYPE_NAMES,
    ByteStream,
    Header,
    IdxError,
    open_bytes,
    read_header,
    truncated,
)
from digitflow.tasks.durable import unfinished_file

__all__ = ["IdxError", "check_pair", "decode", "encode", "write", "write_blocks"]

MAX_LENGTH = 2**32 - 1  # of a dimension: it is an unsigned 32-bit integer

# Excess data is counted this far, no further: there might be no end to it.
_EXCESS_COUNTED = 64 * 1024

# Bytes on their way to a file: small enough for the processor's cache, whole numbers of any dtype.
_BLOCK = 1024 * 1024


def decode(
    file: Path,
    *,
    name: str | None = None,
    max_bytes: int = MAX_BYTES,
    transposed: bool = False,
    to: Path | None = None,
) -> NDArray[Any]:
    """Read one IDX file, gzipped or plain, and refuse it unless every byte is accounted for.

    The data is streamed into the array: no more memory is taken than the array's own and a
    chunk, whatever the file expands to, and with `to` no more than a chunk.

    Parameters
    ----------
    file : Path
        Its first two bytes tell whether it is gzipped, not its name.
    name : str, optional
        What error messages call the file, where that is not its path.
    max_bytes : int
        Largest array accepted, in bytes; a header that declares more is refused before any
        memory is taken for it.
    transposed : bool
        The file holds images, (n, width, height), with rows and columns exchanged, as EMNIST's
        do: turn them upright.
    to : Path, optional
        ``.npy`` file to decode into, instead of memory; replaced if it is there, removed if the
        IDX file is refused.

    Returns
    -------
    NDArray
        Shape as declared, of `transposed` images (n, height, width); uint8, int8, int16, int32,
        float32 or float64 in native byte order.
        With `to` a memory map of that file.

    Raises
    ------
    IdxError
        If anything is not as the format says; names the file, what was expected, what was found.
    ValueError
        If what should be transposed images is of another number of dimensions.
    OSError
        If the file cannot be read.
    """
    name = str(file) if name is None else name
    with open_bytes(file, name) as stream:
        header = read_header(stream, name, max_bytes)
        if header.size + header.data_size > stream.capacity:
            # The file cannot hold that much: count what there is instead of making room for it.
            raise truncated(name, header.data_size, stream.count_rest(header.data_size))
        native = np.dtype(header.type_name)
        try:
            if to is None:
                array = np.empty(header.shape, native)
                found = stream.read_into(_bytes_of(array))
                array = _upright(_swapped(array), transposed)
            else:
                found = _stream_to(to, stream, header, native, transposed)
            _check_end(stream, name, header, found)
        except BaseException:
            if to is not None:
                to.unlink(missing_ok=True)
            raise
    if to is None:
        return array
    mapped: np.memmap[Any, Any] = np.load(to, mmap_mode="r+", allow_pickle=False)
    return mapped


def _stream_to(
    file: Path, stream: ByteStream, header: Header, native: np.dtype[Any], transposed: bool
) -> int:
    """Write an ``.npy`` file, the bytes of `numpy.save`; return how many bytes there were for it.

    Written, not mapped: pages of a map that is written to count as memory of this process.
    """
    # What an array of the data would be, without its memory.
    whole = np.broadcast_to(np.empty((), native), header.shape)
    shape = _upright(whole, transposed).shape
    expected, length = header.data_size, _BLOCK
    if transposed:  # whole images
        image = max(1, math.prod(header.shape[1:]) * native.itemsize)
        length = image * max(1, _BLOCK // image)
    block = np.empty(min(length, expected), np.uint8)
    found = 0
    with file.open("wb") as output:
        layout = {"shape": shape, "fortran_order": False, "descr": npy.dtype_to_descr(native)}
        npy.write_array_header_1_0(output, layout)
        while found < expected:
            piece = block[: expected - found]
            count = stream.read_into(piece.data)
            found += count
            if count < len(piece):
                break
            numbers = _swapped(piece.view(native))
            if transposed:
                numbers = _upright(numbers.reshape(-1, *header.shape[1:]), transposed)
            output.write(np.ascontiguousarray(numbers).data)
    return found


def _swapped(array: NDArray[Any]) -> NDArray[Any]:
    """Turn what was read as native, and is big-endian, into what it is; in its place."""
    return array.byteswap(inplace=True) if sys.byteorder == "little" else array


def _upright(images: NDArray[Any], transposed: bool) -> NDArray[Any]:
    return images.transpose(0, 2, 1) if transposed else images


def _check_end(stream: ByteStream, name: str, header: Header, found: int) -> None:
    if found < header.data_size:
        raise truncated(name, header.data_size, found)
    excess = stream.count_rest(_EXCESS_COUNTED)
    if excess:
        more = "at least " if excess == _EXCESS_COUNTED else ""
        message = (
            f"{name}: expected {header.data_size:,} bytes of data for shape {header.shape}, "
            f"found {more}{excess:,} bytes too many"
        )
        raise IdxError(message)


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def check_pair(images: NDArray[Any], labels: NDArray[Any], *, name: str = "the dataset") -> None:
    """Refuse images and labels that do not belong together.

    Parameters
    ----------
    images : NDArray, shape (n, …)
        At least one image of at least one dimension.
    labels : NDArray of integers, shape (n,)
    name : str
        What error messages call the two.

    Raises
    ------
    IdxError
        If a shape or dtype is another, or the numbers differ.
    """
    if images.ndim < 2:
        message = f"{name}: expected images of 2 or more dimensions, found shape {images.shape}"
        raise IdxError(message)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        message = (
            f"{name}: expected labels as integers of shape (n,), "
            f"found {labels.dtype.name} of shape {labels.shape}"
        )
        raise IdxError(message)
    if len(images) != len(labels):
        message = (
            f"{name}: expected as many labels as images, found {len(images):,} images and "
            f"{len(labels):,} labels; check that both files are of the same set"
        )
        raise IdxError(message)
    if images.size == 0:
        message = f"{name}: expected at least one image, found shape {images.shape}"
        raise IdxError(message)


def encode(array: NDArray[Any]) -> bytes:
    """Return `array` as the bytes of a plain IDX file.

    Raises
    ------
    IdxError
        If IDX has no code for the dtype, or cannot hold the shape.
    """
    return _header(array.shape, array.dtype) + _big_endian(array).tobytes()


def write(path: Path, array: NDArray[Any]) -> None:
    """Write `array` as a gzipped IDX file, whole or not at all.

    The same array gives the same bytes: no time and no name in the gzip header. (Another
    implementation of zlib may compress to other bytes.)

    Raises
    ------
    IdxError
        If IDX has no code for the dtype, or cannot hold the shape.
    """
    write_blocks(path, array.shape, array.dtype, [array])


def write_blocks(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], blocks: Iterable[NDArray[Any]]
) -> None:
    """Write an array of `shape` and `dtype` that comes in `blocks` along its first dimension.

    For arrays that need not fit into memory; otherwise as `write`.

    Raises
    ------
    IdxError
        If IDX has no code for the dtype, cannot hold the shape, or the blocks do not fill it.
    """
    header = _header(shape, dtype)
    with unfinished_file(path) as unfinished:
        with (
            unfinished.open("wb") as file,
            gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed,
        ):
            packed.write(header)
            count = 0
            for block in blocks:
                if block.shape[1:] != shape[1:] or block.dtype != dtype:
                    message = (
                        f"{path}: expected blocks of {dtype.name} and shape (n, …) from {shape}, "
                        f"found {block.dtype.name} of shape {block.shape}"
                    )
                    raise IdxError(message)
                packed.write(_big_endian(block).tobytes())
                count += len(block)
        if count != shape[0]:
            message = f"{path}: expected blocks for shape {shape}, found {count} in all"
            raise IdxError(message)


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    wanted = f"{dtype.kind}{dtype.itemsize}"
    code = next((code for code, name in TYPE_CODES.items() if name.lstrip(">") == wanted), None)
    if code is None:
        known = ", ".join(TYPE_NAMES.values())
        message = f"expected an array of {known} to write as IDX, found {dtype.name}"
        raise IdxError(message)
    if not 1 <= len(shape) <= MAX_DIMENSIONS or max(shape) > MAX_LENGTH:
        message = (
            f"expected 1 to {MAX_DIMENSIONS} dimensions of at most {MAX_LENGTH:,} to write as "
            f"IDX, found shape {shape}"
        )
        raise IdxError(message)
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape)


def _big_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(">"))
