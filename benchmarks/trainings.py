"""Trainings by the pipeline's own stages, one after the other; what is in the store is served."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from digitflow.flows.pipeline import pipeline, train_network
from digitflow.flows.selection import Selection
from digitflow.flows.spec import RunOptions
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, Handle, compute, using
from digitflow.tasks.parameters import Parameters

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes
    ----------
    history
        A row an epoch.
    seconds
        That it took, when it was not in the store yet.
    """

    history: pd.DataFrame
    seconds: float
    _cache: Store
    _predictions: Artifact
    _targets: Artifact

    def test_accuracy(self) -> float:
        """Return the share of test images that are recognised. Whoever searches does not ask."""
        outputs = self._cache.read(self._predictions)["outputs"]
        targets = self._cache.read(self._targets)
        labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return float(np.mean(outputs.argmax(axis=1) == labels))


class Trainings:
    """Trains on one dataset, with one store.

    Parameters
    ----------
    cache
        The store, in use.
    dataset
        As ``--dataset`` takes it.
    """

    def __init__(self, cache: Store, dataset: str) -> None:
        self._spec = RunOptions(dataset, overrides={"training_sample": 0, "test_sample": 0}).spec()
        self._context = Context(cache, "benchmark", compute)
        self._prepared: dict[Any, Handle] = {}

    def train(self, parameters: Parameters) -> Trained:
        """Train a network, or take it from the store."""
        store, classes = self._context.store, len(self._spec.dataset.labels)
        with using(self._context):
            prepared = self._prepare(parameters)
            trained = train_network("train", prepared, parameters, classes).result()
        record = store.records.load("train", trained.key)
        return Trained(
            store.read(trained.outputs["history"]),
            trained.seconds if record is None else record.seconds,
            store,
            trained.outputs["predictions"],
            prepared.result().outputs["test_targets"],
        )

    def _prepare(self, parameters: Parameters) -> Handle:
        """Prepare the images, once for all trainings on the same ones."""
        alike = (parameters.training_sample, parameters.test_sample, parameters.network)
        if alike not in self._prepared:
            until = Selection(until="preprocess")
            pipeline(replace(self._spec, parameters=parameters, selection=until))
            self._prepared[alike] = self._context.called[-1]
        return self._prepared[alike]
