"""Trainings by the pipeline's own stages, one after the other; what is in the store is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flows.options import RunOptions
from flows.pipeline import Selection, pipeline, train_network
from storage.artifacts import Artifact
from storage.cache import Cache
from tasks.config import Parameters
from tasks.stage import Handle, Refs, Stage, StageResult, resolved

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
    _cache: Cache
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

    def __init__(self, cache: Cache, dataset: str) -> None:
        options = RunOptions(dataset=dataset)
        self._cache, self._dataset = cache, options.find_dataset()
        self._mirrors = options.mirrors(self._dataset)
        self._prepared: dict[Any, Handle] = {}

    def train(self, parameters: Parameters) -> Trained:
        """Train a network, or take it from the store."""
        prepared = self._prepare(parameters)
        classes = len(self._dataset.labels)
        trained = train_network(self._call, "train", prepared, parameters, classes).source
        record = self._cache.records.load("train", trained.key)
        return Trained(
            self._cache.read(trained.outputs["history"]),
            trained.seconds if record is None else record.seconds,
            self._cache,
            trained.outputs["predictions"],
            prepared.source.outputs["test_targets"],
        )

    def _prepare(self, parameters: Parameters) -> Handle:
        """Prepare the images, once for all trainings on the same ones."""
        called: dict[str, Handle] = {}

        def call(stage: Stage, label: str, inputs: Refs, values: Mapping[str, Any]) -> Handle:
            called[label] = self._call(stage, label, inputs, values)
            return called[label]

        alike = (parameters.training_sample, parameters.test_sample, parameters.network)
        if alike not in self._prepared:
            until = Selection(until="preprocess")
            pipeline(call, self._dataset, self._mirrors, parameters, until)
            self._prepared[alike] = called["preprocess"]
        return self._prepared[alike]

    def _call(
        self, stage: Stage, label: str, inputs: Refs, parameters: Mapping[str, Any]
    ) -> Handle:
        result: StageResult = stage.run(
            self._cache, label, resolved(inputs), parameters, run="benchmark"
        )
        return Handle(stage, result)
