"""Checkpoints that survive a killed process and are believed only after they were verified.

A checkpoint is one ``.npz`` file whose name holds its epoch and the SHA-256 of its bytes. It
is written beside its final name, flushed to the disk and renamed, so a name never stands for
half a file; and it is hashed again before it is read. The two newest are kept, so that one
damaged file costs one epoch.
"""

import hashlib
import io
import json
import logging
import math
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.durable import unfinished_file
from digitflow.tasks.nn.feed import file_rows

Arrays = dict[str, NDArray[Any]]

logger = logging.getLogger(__name__)

KEPT = 2
_ROWS_AT_ONCE = 4096
_META = "checkpoint"

# What reading an archive raises that is none, holds other things, or names Python objects.
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    EOFError,
    OSError,
    MemoryError,
    RecursionError,
    zipfile.BadZipFile,
)


def run_identity(parameters: Mapping[str, Any], *data: NDArray[Any]) -> str:
    """Return a digest that two runs share if, and only if, they would compute the same.

    Parameters
    ----------
    parameters : Mapping
        Everything but the data that the result depends on; must fit JSON.
    *data : NDArray
        The arrays that are trained and tested on, any shape and dtype.

    Returns
    -------
    str
        SHA-256 in hexadecimal over parameters, NumPy's version, shapes, dtypes and values.
    """
    document = {
        "parameters": dict(parameters),
        "numpy": np.__version__,
        "data": [[array.dtype.str, list(array.shape)] for array in data],
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for array in data:
        for block in _blocks(array):
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield all rows, some at a time, so that a memory map is never in memory as a whole."""
    file = file_rows(array)
    for start in range(0, len(array), _ROWS_AT_ONCE):
        block = array[start : start + _ROWS_AT_ONCE]
        if file is not None:
            block = np.empty(block.shape, block.dtype)
            file.read(start, block)
        yield block


@dataclass(frozen=True)
class Checkpoint:
    """State after `epoch` epochs: groups of arrays by name, and whatever else fits JSON.

    A group without arrays is absent when the checkpoint is loaded.
    """

    epoch: int
    arrays: dict[str, Arrays]
    state: dict[str, Any]


class CheckpointFolder:
    """Checkpoints of one run in one folder.

    Parameters
    ----------
    folder : Path
        Created with the first checkpoint.
    identity : str
        From `run_identity`; checkpoints of another run are left alone and never read.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._prefix = f"{identity[:16]}-"
        self._identity = identity

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `checkpoint` so that it is there whole or not at all, then drop the oldest."""
        meta = {
            "identity": self._identity,
            "epoch": checkpoint.epoch,
            "state": checkpoint.state,
        }
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            _META: np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8),
            **{
                f"array/{group}/{name}": array
                for group, named in checkpoint.arrays.items()
                for name, array in named.items()
            },
        }
        np.savez(buffer, allow_pickle=False, **arrays)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        target = self._folder / f"{self._prefix}{checkpoint.epoch:06d}-{digest}.npz"
        with unfinished_file(target) as unfinished:
            unfinished.write_bytes(content)
        for old in self._newest_first()[KEPT:]:
            old.unlink(missing_ok=True)

    def load(self, *, at_most: int) -> Checkpoint | None:
        """Return the newest checkpoint of this run that verifies, or None if there is none.

        Checkpoints after more than `at_most` epochs are not considered. A damaged file is
        passed over with a warning in the log; it costs time, not truth.
        """
        for path in self._newest_first():
            epoch = _epoch(path)
            if epoch is None or epoch > at_most:
                continue
            try:
                content = path.read_bytes()
            except OSError as error:
                logger.warning("Checkpoint %s cannot be read (%s); passing over it.", path, error)
                continue
            expected = path.stem.rsplit("-", 1)[-1]
            found = hashlib.sha256(content).hexdigest()
            if found != expected:
                logger.warning(
                    "Checkpoint %s is damaged: its SHA-256 should be %s and is %s; "
                    "passing over it.",
                    path,
                    expected,
                    found,
                )
                continue
            try:
                checkpoint = self._decode(content)
            except _UNREADABLE as error:
                # Its digest is right, and yet it was not written here.
                logger.warning("%s is no checkpoint (%s); passing over it.", path, error)
                continue
            if checkpoint is not None:
                return checkpoint
        return None

    def newest(self, *, at_most: int) -> Path | None:
        """Return the file of the newest checkpoint after at most `at_most` epochs, or None."""
        files = ((_epoch(path), path) for path in self._newest_first())
        return next((path for epoch, path in files if epoch is not None and epoch <= at_most), None)

    def adopt(self, file: Path) -> None:
        """Take over a checkpoint of this run that was made elsewhere, whatever it is called.

        One of another run, or a file that is none, is passed over with a warning in the log: it
        would have saved time, and changes nothing.
        """
        try:
            checkpoint = self._decode(file.read_bytes())
        except _UNREADABLE as error:
            logger.warning("%s is no checkpoint (%s); passing over it.", file, error)
            return
        if checkpoint is None:
            logger.warning("Checkpoint %s is of another training; passing over it.", file)
            return
        self.save(checkpoint)

    def clear(self) -> None:
        """Remove every checkpoint of this run."""
        for path in self._newest_first():
            path.unlink(missing_ok=True)

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._prefix}*.npz"), reverse=True)

    def _decode(self, content: bytes) -> Checkpoint | None:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # Stored as they are, members cannot outgrow the archive.
            if sum(member.file_size for member in archive.infolist()) > len(content):
                message = "it declares more data than it holds"
                raise ValueError(message)
            for member in archive.infolist():
                with archive.open(member) as array:
                    _check_declared(array, member.file_size)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            meta = json.loads(file[_META].tobytes())
            if meta["identity"] != self._identity:
                return None
            arrays: dict[str, Arrays] = {}
            for key in file.files:
                if key != _META:
                    _, group, name = key.split("/", 2)
                    arrays.setdefault(group, {})[name] = file[key]
        return Checkpoint(meta["epoch"], arrays, meta["state"])


def _check_declared(file: IO[bytes], size: int) -> None:
    """Refuse an array whose header declares more than follows, before NumPy makes room for it."""
    version = np.lib.format.read_magic(file)
    formats = np.lib.format
    read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > size:
        message = "an array in it declares more data than it holds"
        raise ValueError(message)


def _epoch(path: Path) -> int | None:
    text = path.stem.split("-")[1]
    return int(text) if text.isdecimal() else None
