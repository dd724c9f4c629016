"""What models predicted, batch by batch: how often each class, and how sure. Never the pictures.

One checksummed JSON file a batch, named so that their order is that of time. They belong to this
machine, in a shared store too, as models do.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from digitflow.storage.documents import Document, Kind
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
    brightness, contrast
        Mean over the pictures that are not blank of the mean and of the standard deviation of their
        pixels, 0 to 255; None in the record of an older digitflow, and of a batch of blank ones.
    unsure
        Pictures that are not blank and of which the model said that it does not know; None where it
        cannot tell, and in the record of an older digitflow.
    """

    created: Time
    run: str
    model: Count
    class_names: tuple[str, ...]
    counts: tuple[Count, ...]
    confidence: Number
    blank: Count
    unreadable: Count
    brightness: Number | None = None
    contrast: Number | None = None
    unsure: Count | None = None


def _check_counts(batch: BatchRecord) -> None:
    if len(batch.counts) != len(batch.class_names):
        message = f"expected {len(batch.class_names)} counts, found {len(batch.counts)}"
        raise ValueError(message)


def _new_name(batch: BatchRecord) -> str:
    moment = datetime.fromisoformat(batch.created).astimezone(UTC)
    stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}"
    # Of two in one millisecond the one that is written later is the newer one.
    return f"{stamp}-{time.time_ns():016x}{secrets.token_hex(2)}"


BATCHES = Kind(
    BatchRecord,
    folder="batches",
    is_name=re.compile(r"\d{8}T\d{9}-[0-9a-f]{20}").fullmatch,
    expected="a time and twenty hexadecimal digits",
    title=lambda name: f"the record of batch {name}",
    new_name=_new_name,
    order="name",
    check=_check_counts,
)
