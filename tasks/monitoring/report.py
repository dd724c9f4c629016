"""What was predicted lately, measured against a model's test set."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from digitflow.storage.batches import BatchRecord
from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion
from digitflow.tasks.monitoring.drift import Drift, Seen, State, measure, pooled
from digitflow.tasks.prediction.predictions import loss_of

LAST_BATCHES = 10

_SEVERITY: tuple[State, ...] = ("too few", "stable", "watch", "drifted")


@dataclass(frozen=True)
class DriftReport:
    """Recorded batches against the test set of a model.

    Attributes
    ----------
    model
        Whose test set it is.
    then
        What the model predicted there.
    now
        What was predicted in all the batches together.
    drift
        How far the one is from the other.
    batches
        The batches, oldest first, and how far each is from the test set.
    """

    model: ModelVersion
    then: Seen
    now: Seen
    drift: Drift
    batches: tuple[tuple[BatchRecord, Drift], ...]

    @property
    def state(self) -> State:
        """The worse of all batches together and of the newest, which may be the first of many."""
        newest = self.batches[-1][1].state
        return max(self.drift.state, newest, key=_SEVERITY.index)


def report_drift(cache: Cache, model: ModelVersion, last: int = LAST_BATCHES) -> DriftReport | None:
    """Compare the newest batches with a model's test set; None if no batch is recorded.

    Batches of other models count, too, if their classes are the same: what has drifted is the
    pictures. Those in which nothing was predicted do not.

    Raises
    ------
    StorageError
        If the model's predictions are lost or damaged.
    """
    newest = (
        batch
        for batch in cache.batches.newest_first()
        if batch.class_names == model.class_names and any(batch.counts)
    )
    batches = list(islice(newest, last))[::-1]
    if not batches:
        return None
    then = seen_in_test(cache, model)
    seen = [Seen(batch.counts, batch.confidence) for batch in batches]
    measured = [measure(then, each) for each in seen]
    together = pooled(seen)
    return DriftReport(
        model,
        then,
        together,
        measure(then, together),
        tuple(zip(batches, measured, strict=True)),
    )


def seen_in_test(cache: Cache, model: ModelVersion) -> Seen:
    """Return what a model predicted for its test set."""
    import numpy as np

    from digitflow.tasks.nn.probabilities import probabilities

    outputs = np.asarray(cache.read(model.predictions)["outputs"])
    counts = np.bincount(outputs.argmax(axis=1), minlength=len(model.class_names))
    confidence = probabilities(outputs, loss_of(model)).max(axis=1).mean()
    return Seen(tuple(int(count) for count in counts), float(confidence))
