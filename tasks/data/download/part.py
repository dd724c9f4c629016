"""A file on its way: the bytes that have arrived, on disk and in the digest."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from digitflow.tasks.data.download.mirror_errors import (
    InterruptedTransferError,
    StartOverError,
    WrongBytesError,
)

Progress = Callable[[int, int], None]


class Part:
    """An open partial file that knows what the whole must be.

    Opening it hashes what an earlier process left, so that a transfer can go on from there.

    Parameters
    ----------
    path : Path
        The file; made if it is missing, removed on closing if it is empty.
    size : int
        Length of the whole, in bytes; the file never grows beyond it.
    sha256 : str
        Digest of the whole, 64 lower-case hex digits.
    progress : callable, optional
        Called with (bytes that have arrived, `size`) after each change.

    Attributes
    ----------
    length : int
        Bytes that have arrived.
    """

    def __init__(self, path: Path, *, size: int, sha256: str, progress: Progress | None) -> None:
        self.path = path
        self.size = size
        self.sha256 = sha256
        self.length = 0
        self._progress = progress
        self._hash = hashlib.sha256()
        self._file = path.open("a+b")
        try:
            self._hash_what_is_there()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if self.length == 0 and self.size > 0:
            self.path.unlink(missing_ok=True)

    def is_verified(self) -> bool:
        """Whether all bytes are there and they are the right ones."""
        return self.length == self.size and self._hash.hexdigest() == self.sha256

    def receive(self, begin: int, chunks: Iterable[bytes]) -> None:
        """Take the bytes that a mirror sends, to the verified end.

        Parameters
        ----------
        begin : int
            Offset of the first byte: `length`, or 0 to start over.
        chunks : iterable of bytes
            May raise `MirrorError`; what came before is kept.

        Raises
        ------
        InterruptedTransferError
            If `chunks` end early.
        WrongBytesError
            If one answer held the whole file and it is another; nothing is kept.
        StartOverError
            If the whole, put together from several answers, is wrong; nothing is kept.
        """
        if begin != self.length:
            self.clear()
        problem = None
        for chunk in chunks:
            if self.length + len(chunk) > self.size:
                problem = f"expected {self.size:,} bytes, it sends more"
                break
            self._append(chunk)
        if problem is None:
            if self.length < self.size:
                reason = "connection closed early"
                raise InterruptedTransferError(reason)
            if self.is_verified():
                return
            problem = f"expected SHA-256 {self.sha256}, found {self._hash.hexdigest()}"
        self.clear()
        kind = StartOverError if begin else WrongBytesError
        reason = f"wrong bytes: {problem}"
        raise kind(reason, permanent=True)

    def clear(self) -> None:
        """Drop what has arrived."""
        self._file.truncate(0)
        self._hash = hashlib.sha256()
        self.length = 0
        self.report()

    def _hash_what_is_there(self) -> None:
        self._file.seek(0)
        self.length = self.path.stat().st_size
        if self.length <= self.size:
            self._hash = hashlib.file_digest(self._file, "sha256")
        if self.length > self.size or (self.length == self.size and not self.is_verified()):
            self.clear()
        self.report()

    def _append(self, chunk: bytes) -> None:
        self._file.write(chunk)
        self._hash.update(chunk)
        self.length += len(chunk)
        self.report()

    def report(self) -> None:
        """Tell whoever is interested how much has arrived."""
        if self._progress is not None:
            self._progress(self.length, self.size)
