"""What models predicted, batch by batch: how often each class, and how sure. Never the pictures.

One sealed JSON file a batch, named so that their order is that of time. They belong to this
machine, in a shared store too, as models do.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digitflow.storage.checksummed import read_sealed, write_sealed
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.fields import is_number, is_time

_FILE = re.compile(r"\d{8}T\d{9}-[0-9a-f]{20}\.json")


@dataclass(frozen=True)
class BatchRecord:
    """What a model predicted for a batch of pictures.

    Attributes
    ----------
    created
        When, ISO 8601 in UTC.
    run
        Name of the run, or what else it was predicted for.
    model
        Number of the model version.
    class_names
        What its outputs stand for.
    counts
        How often each class was predicted.
    confidence
        Mean probability of the predicted class; 0 if nothing was predicted.
    blank, unreadable
        How many pictures had nothing on them, and how many files could not be read.
    """

    created: str
    run: str
    model: int
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    confidence: float
    blank: int
    unreadable: int


class BatchStore:
    """Records of batches in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(self, batch: BatchRecord) -> Path:
        """Write a record whole or not at all, and return where."""
        moment = datetime.fromisoformat(batch.created).astimezone(UTC)
        stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}"
        # Of two in one millisecond the one that is written later is the newer one.
        path = self.root / f"{stamp}-{time.time_ns():016x}{secrets.token_hex(2)}.json"
        write_sealed(path, asdict(batch))
        return path

    def newest_first(self) -> Iterator[BatchRecord]:
        """Iterate over the readable records, newest first."""
        for path in reversed(self.files()):
            try:
                yield load_batch(path)
            except (RecordDamagedError, FileNotFoundError):
                continue

    def damaged(self) -> Iterator[Path]:
        """Iterate over what lies here and cannot be trusted."""
        for path in self.files():
            try:
                load_batch(path)
            except FileNotFoundError:
                continue
            except RecordDamagedError:
                yield path

    def files(self) -> list[Path]:
        """Return where the records lie, oldest first."""
        if not self.root.is_dir():
            return []
        return sorted(path for path in self.root.iterdir() if _FILE.fullmatch(path.name))


def load_batch(path: Path) -> BatchRecord:
    """Read a record back, trusting nothing.

    Raises
    ------
    FileNotFoundError
        If there is none.
    RecordDamagedError
        If it is not what its own digest promises.
    """
    body = read_sealed(path)
    try:
        names, counts = tuple(body["class_names"]), tuple(body["counts"])
        batch = BatchRecord(**{**body, "class_names": names, "counts": counts})
        is_ours = _has_our_types(batch)
    except (TypeError, KeyError) as error:
        message = f"{path} is damaged: {error}"
        raise RecordDamagedError(message) from error
    if not is_ours:
        message = f"{path} is damaged: a field of it has another type than ours"
        raise RecordDamagedError(message)
    return batch


def _has_our_types(batch: BatchRecord) -> bool:
    """Tell what was never written by us though it is whole: others read fields unchecked."""
    counted: tuple[Any, ...] = (batch.model, batch.blank, batch.unreadable, *batch.counts)
    return (
        is_time(batch.created)
        and isinstance(batch.run, str)
        and all(isinstance(name, str) for name in batch.class_names)
        and all(isinstance(n, int) and is_number(n) and n >= 0 for n in counted)
        and is_number(batch.confidence)
        and len(batch.counts) == len(batch.class_names)
    )
