"""An IDX file without NumPy: its bytes, its header, and the values of its labels.

What a dataset is must be known to plan a run, and planning loads no arrays. Bytes, gzipped or
plain, are read in pieces of bounded size.
"""

from __future__ import annotations

import math
import os
import re
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

# Intel's igzip, with zlib's interface: more than twice as fast (docs/performance.md).
from isal import isal_zlib

INPUT_CHUNK = 64 * 1024  # bytes read from the file at once
OUTPUT_CHUNK = 1024 * 1024  # bytes decompressed at once, however small their compressed form
GZIP_MAGIC = b"\x1f\x8b"

# Deflate's best ratio, from zlib's technical notes (https://zlib.net/zlib_tech.html): 1032 to 1.
_MOST_PER_BYTE = 1032

# zlib's window size for a gzip wrapper: it checks header, CRC-32 and length itself.
_GZIP_WBITS = 31

# The fourth byte of a member holds flags, three of them reserved: "must give an error indication
# if any reserved bit is non-zero" (RFC 1952, 2.3.1.2), which igzip does not.
_FLAGS_AT = 3
_RESERVED_FLAGS = 0xE0

MAX_BYTES = 4 * 1024**3
MAX_DIMENSIONS = 64  # NumPy's own limit; IDX allows 255

# By type code: NumPy's name of the type as stored, and its name in messages.
TYPE_CODES = MappingProxyType(
    {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
)
TYPE_NAMES = MappingProxyType(
    {
        0x08: "uint8",
        0x09: "int8",
        0x0B: "int16",
        0x0C: "int32",
        0x0D: "float32",
        0x0E: "float64",
    }
)

# By their first bytes: what is met under the name of an IDX file.
_OTHER_KINDS = MappingProxyType(
    {
        b"<?xml": "an XML document, such as a server's error message; download the file again",
        b"version https://git-lfs": "a pointer of Git LFS instead of the file; run git lfs pull",
        b"PK\x03\x04": "a ZIP archive; unpack it",
        b"BZh": "a file packed with bzip2; unpack it",
        b"\xfd7zXZ\x00": "a file packed with xz; unpack it",
        b"\x28\xb5\x2f\xfd": "a file packed with zstd; unpack it",
        b"\x93NUMPY": "a NumPy array (.npy)",
    }
)
_LOOKED_AT = 1024  # bytes

# The `array` module's letters for the integer types.
_INTEGERS = MappingProxyType({0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i"})


class IdxError(ValueError):
    """A file is not the IDX file it should be; says what was expected and what was found."""


class ByteStream:
    """The bytes of a plain file.

    Attributes
    ----------
    capacity : int
        An upper bound for the number of bytes, known before reading.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.capacity = os.fstat(file.fileno()).st_size

    def read_into(self, view: memoryview) -> int:
        """Fill `view` from its start; return how many bytes there were for it."""
        filled = 0
        while filled < len(view):
            piece = self._next(min(OUTPUT_CHUNK, len(view) - filled))
            if not piece:
                break
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end."""
        buffer = bytearray(count)
        return bytes(buffer[: self.read_into(memoryview(buffer))])

    def count_rest(self, limit: int) -> int:
        """Read on without keeping anything; return the number of bytes, at most `limit`."""
        counted = 0
        while counted < limit and (piece := self._next(min(OUTPUT_CHUNK, limit - counted))):
            counted += len(piece)
        return counted

    def _next(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes, none only at the end."""
        return self._file.read(limit)


class GzipStream(ByteStream):
    """The decompressed bytes of a gzip file of one or more members (RFC 1952)."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, name)
        self.capacity *= _MOST_PER_BYTE
        self._member: Any = None
        self._input = b""

    def _next(self, limit: int) -> bytes:
        while True:
            if (self._member is None or self._member.eof) and not self._begin_member():
                return b""
            at_end = False
            if not self._input:
                self._input = self._file.read(INPUT_CHUNK)
                at_end = not self._input
            try:
                piece: bytes = self._member.decompress(self._input, limit)
            except isal_zlib.error as error:  # type: ignore[misc]  # a class; the stub errs
                raise self._damaged(_error_text(error)) from error
            self._input = self._member.unconsumed_tail
            if piece:
                return piece
            if at_end and not self._member.eof:
                message = (
                    f"{self._name}: expected an intact gzip stream, found that it breaks off; "
                    f"the file is not complete, get it again"
                )
                raise IdxError(message)

    def _begin_member(self) -> bool:
        """Go on to the next member; False at the end of the file.

        Zero bytes behind a member are padding to the block size of a tape or a disk, and skipped
        as gzip skips them.
        """
        rest = b"" if self._member is None else self._member.unused_data.lstrip(b"\0")
        while len(rest) <= _FLAGS_AT and (more := self._file.read(INPUT_CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            return False
        if not rest.startswith(GZIP_MAGIC):
            message = (
                f"{self._name}: expected the end of the file or another gzip member, "
                f"found trailing bytes {rest[:8].hex(' ')}"
            )
            raise IdxError(message)
        if len(rest) > _FLAGS_AT and rest[_FLAGS_AT] & _RESERVED_FLAGS:
            detail = "unknown header flags set"
            raise self._damaged(detail)
        self._member = isal_zlib.decompressobj(_GZIP_WBITS)
        self._input = rest
        return True

    def _damaged(self, detail: str) -> IdxError:
        return IdxError(
            f"{self._name}: expected an intact gzip stream, found {detail}; "
            f"the file is damaged, get it again"
        )


def _error_text(error: Exception) -> str:
    """Return the words of an error such as ``Error -6 Incorrect checksum found``."""
    words = re.sub(r"^Error -?\d+:? |( found)?$", "", str(error))
    return words[:1].lower() + words[1:]


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[ByteStream]:
    """Open `path`; its first two bytes tell whether it is gzipped.

    Parameters
    ----------
    path : Path
    name : str
        What error messages call it.
    """
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        yield GzipStream(file, name) if is_gzip else ByteStream(file, name)


@dataclass(frozen=True)
class Header:
    """What the first bytes of an IDX file declare.

    Attributes
    ----------
    code : int
        Type of the numbers, a key of `TYPE_CODES`.
    shape : tuple of int
    """

    code: int
    shape: tuple[int, ...]

    @property
    def type_name(self) -> str:
        """The type in NumPy's words, such as ``uint8``."""
        return TYPE_NAMES[self.code]

    @property
    def item_size(self) -> int:
        """Bytes of one number."""
        return int(TYPE_CODES[self.code][-1])

    @property
    def size(self) -> int:
        """Bytes of the header itself."""
        return 4 + 4 * len(self.shape)

    @property
    def data_size(self) -> int:
        """Bytes of the data that is to follow."""
        return math.prod(self.shape) * self.item_size


def read_header(stream: ByteStream, name: str, max_bytes: int = MAX_BYTES) -> Header:
    """Read the header at the start of a stream.

    Parameters
    ----------
    stream : ByteStream
    name : str
        What error messages call it.
    max_bytes : int
        Largest data accepted.

    Raises
    ------
    IdxError
        If it is not an IDX header, or declares more than `max_bytes` of data.
    """
    start = stream.read(4)
    if start[:2] != b"\0\0"[: len(start)]:
        found = _kind_of(start + stream.read(_LOOKED_AT))
        message = f"{name}: expected an IDX file, which begins with the bytes 00 00, found {found}"
        raise IdxError(message)
    if len(start) < 4:
        message = f"{name}: expected a header of at least 4 bytes, found {len(start)}"
        raise IdxError(message)
    code, dimensions = start[2], start[3]
    if code not in TYPE_CODES:
        known = ", ".join(f"0x{each:02X}" for each in TYPE_CODES)
        message = f"{name}: expected a type code out of {known}, found 0x{code:02X}"
        raise IdxError(message)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        message = f"{name}: expected 1 to {MAX_DIMENSIONS} dimensions, found {dimensions}"
        raise IdxError(message)
    lengths = stream.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        message = (
            f"{name}: expected a header of {4 + 4 * dimensions} bytes for {dimensions} "
            f"dimensions, found {4 + len(lengths)}"
        )
        raise IdxError(message)
    header = Header(code, struct.unpack(f">{dimensions}I", lengths))
    # A dimension of 0 must not hide others that no array can have.
    declared = math.prod(max(length, 1) for length in header.shape) * header.item_size
    if declared > max_bytes:
        message = (
            f"{name}: expected at most {max_bytes:,} bytes of data, found a header that declares "
            f"{declared:,} ({header.type_name}, shape {header.shape})"
        )
        raise IdxError(message)
    return header


def _kind_of(start: bytes) -> str:
    """Say what a file is that begins so, where that is known; or its first two bytes."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<!doctype html") or b"<html" in text:
        return (
            "an HTML page, as a server sends it in place of a file: an error, or a form to log in; "
            "download the file again"
        )
    for beginning, kind in _OTHER_KINDS.items():
        if start.startswith(beginning):
            return kind
    return start[:2].hex(" ")


def truncated(name: str, expected: int, found: int) -> IdxError:
    """Return the error for a file that ends before its data does."""
    return IdxError(
        f"{name}: expected {expected:,} bytes of data, found {found:,}; "
        f"the file is not complete, get it again"
    )


def check_complete(path: Path, name: str) -> None:
    """Read a file to its end without keeping anything.

    Raises
    ------
    IdxError
        If it is damaged, or holds less or more than its header declares.
    """
    with open_bytes(path, name) as stream:
        header = read_header(stream, name)
        found = stream.count_rest(header.data_size + 1)
    if found < header.data_size:
        raise truncated(name, header.data_size, found)
    if found > header.data_size:
        message = f"{name}: expected {header.data_size:,} bytes of data, found more"
        raise IdxError(message)


def image_header(path: Path, name: str) -> Header:
    """Read what a file of images declares; none of its pixels are read.

    Raises
    ------
    IdxError
        If it does not declare grey images of bytes, at least one.
    """
    with open_bytes(path, name) as stream:
        header = read_header(stream, name)
    if len(header.shape) != 3:
        message = (
            f"{name}: expected grey images of shape (images, height, width), "
            f"found shape {header.shape}"
        )
        raise IdxError(message)
    if header.type_name != "uint8":
        message = (
            f"{name}: expected pixels of unsigned bytes, 0 for the background to 255, found "
            f"{header.type_name}; scale them to that and write them as type code 0x08"
        )
        raise IdxError(message)
    if 0 in header.shape:
        message = f"{name}: expected at least one image, found shape {header.shape}"
        raise IdxError(message)
    return header


def label_values(path: Path, name: str, most: int) -> tuple[int, frozenset[int]]:
    """Read a file of labels: return how many there are, and which values they take.

    Streamed, so that no more memory is taken than a chunk's.

    Parameters
    ----------
    path : Path
    name : str
        What error messages call it.
    most : int
        Most values accepted.

    Raises
    ------
    IdxError
        If it does not hold integers of one dimension, is damaged or not complete, or its
        labels take more than `most` values.
    """
    with open_bytes(path, name) as stream:
        header = read_header(stream, name)
        letter = _INTEGERS.get(header.code)
        if len(header.shape) != 1 or letter is None:
            message = (
                f"{name}: expected one integer label for each image, found {header.type_name} "
                f"of shape {header.shape}"
            )
            raise IdxError(message)
        values: set[int] = set()
        left = header.data_size
        while left:
            chunk = stream.read(min(OUTPUT_CHUNK, left))
            numbers = array(letter, chunk[: len(chunk) - len(chunk) % header.item_size])
            if sys.byteorder == "little":
                numbers.byteswap()
            values.update(numbers)
            if len(values) > most:
                message = (
                    f"{name}: expected labels of at most {most:,} different values, found more; "
                    "are these the labels of classes?"
                )
                raise IdxError(message)
            if not chunk:
                raise truncated(name, header.data_size, header.data_size - left)
            left -= len(chunk)
    return header.shape[0], frozenset(values)
