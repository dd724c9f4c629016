"""The bytes of a file, gzipped or plain, read in pieces of bounded size."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
                raise self._damaged(_in_words(error)) from error
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


def _in_words(error: Exception) -> str:
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
