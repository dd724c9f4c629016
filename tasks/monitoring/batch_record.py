"""Keep what was predicted for a batch of pictures, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from digitflow.storage.batches import BatchRecord
from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion
from digitflow.storage.os_errors import explaining
from digitflow.storage.records import now
from digitflow.tasks.prediction.predictions import Prediction


def record_batch(
    cache: Cache,
    model: ModelVersion,
    predictions: Sequence[Prediction],
    unreadable: int,
    *,
    run: str,
) -> None:
    """Keep how often each class was predicted and how surely; nothing of the pictures.

    Raises
    ------
    StoreUnusableError, StorageFullError
        If the store cannot be written.
    """
    seen = [each for each in predictions if each.label is not None]
    counts = Counter(each.label for each in seen)
    confidence = sum(each.probability for each in seen) / len(seen) if seen else 0.0
    with explaining("the record of predictions", cache.root):
        cache.batches.save(
            BatchRecord(
                created=now(),
                run=run,
                model=model.version,
                class_names=model.class_names,
                counts=tuple(counts[name] for name in model.class_names),
                confidence=confidence,
                blank=len(predictions) - len(seen),
                unreadable=unreadable,
            )
        )
