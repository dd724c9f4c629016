"""Make what a run has trained a version in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from digitflow.storage.cache import Cache
from digitflow.storage.models import ModelVersion
from digitflow.tasks.engine.stage import StageResult
from digitflow.tasks.reporting.run_summary import find_stage

_DATA = ("training_inputs", "training_targets", "test_inputs", "test_targets")


def register_model(
    cache: Cache,
    stages: tuple[StageResult, ...],
    *,
    run: str,
    preset: str,
    dataset: str,
    class_names: tuple[str, ...],
    transposed: bool,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> ModelVersion | None:
    """Register the network or the ensemble that the run trained, if it did.

    A training that is registered already, cached or not, keeps its version.

    Parameters
    ----------
    cache
        The store.
    stages
        Results of the run's stages.
    run, preset, dataset, class_names, parameters, metrics
        Of the run; of the metrics, single numbers are kept.
    transposed
        Whether the dataset's files hold their images with rows and columns exchanged.
    """
    trained, prepared = find_stage(stages, "train"), find_stage(stages, "preprocess")
    if trained is None or prepared is None:
        return None
    return cache.models.register(
        run=run,
        preset=preset,
        dataset=dataset,
        parameters=dict(parameters),
        metrics={name: value for name, value in metrics.items() if name != "per_class"},
        training=trained.key,
        data={name: prepared.outputs[name].sha256 for name in _DATA},
        class_names=class_names,
        weights=trained.outputs["model"],
        predictions=trained.outputs["predictions"],
        image_size=_image_size(stages),
        transposed=transposed,
    )


def _image_size(stages: tuple[StageResult, ...]) -> tuple[int, int] | None:
    """Return what the reference to the decoded test images says, so that no array is opened."""
    for result in stages:
        if result.label == "decode-test-images":
            _, height, width = result.outputs["array"].details["shape"]
            return height, width
    return None
