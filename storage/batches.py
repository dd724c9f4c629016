"""What models predicted, batch by batch: how often each class, and how sure. Never the pictures.

One checksummed JSON file a batch, named so that their order is that of time. They belong to this
machine, in a shared store too, as models do.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from digitflow.storage.documents import Document, Kind, LocalDocuments
from digitflow.storage.fields import Count, Number, Time


@dataclass(frozen=True)
class BatchRecord(Document):
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

    created: Time
    run: str
    model: Count
    class_names: tuple[str, ...]
    counts: tuple[Count, ...]
    confidence: Number
    blank: Count
    unreadable: Count


def _check_counts(batch: BatchRecord) -> None:
    if len(batch.counts) != len(batch.class_names):
        message = f"expected {len(batch.class_names)} counts, found {len(batch.counts)}"
        raise ValueError(message)


BATCHES = Kind(
    BatchRecord,
    folder="batches",
    is_name=re.compile(r"\d{8}T\d{9}-[0-9a-f]{20}").fullmatch,
    expected="a time and twenty hexadecimal digits",
    title=lambda name: f"the record of batch {name}",
    check=_check_counts,
)


class BatchStore:
    """Records of batches in one folder.

    Parameters
    ----------
    documents
        Where they lie.
    """

    def __init__(self, documents: LocalDocuments[BatchRecord]) -> None:
        self.documents = documents

    def save(self, batch: BatchRecord) -> Path:
        """Write a record whole or not at all, and return where."""
        moment = datetime.fromisoformat(batch.created).astimezone(UTC)
        stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}"
        # Of two in one millisecond the one that is written later is the newer one.
        name = f"{stamp}-{time.time_ns():016x}{secrets.token_hex(2)}"
        return self.documents.path(self.documents.save(batch, name))

    def newest_first(self) -> Iterator[BatchRecord]:
        """Iterate over the readable records, newest first."""
        yield from reversed(list(self.documents.readable()))

    def files(self) -> list[Path]:
        """Return where the records lie, oldest first."""
        return [self.documents.path(name) for name in self.documents.entries()]
