"""The model that a run trained: made a version, and checked before it meets the champion.

Light: it opens no array unless an older digitflow registered a model without its image size.
"""

from __future__ import annotations

import logging
import math

from digitflow.storage.errors import LedgerError
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.call import StageResult
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.reporting.run_summary import RunSummary, find_stage

_log = logging.getLogger(__name__)

DATA = ("training_inputs", "training_targets", "test_inputs", "test_targets")


def register_model(
    cache: Store, summary: RunSummary, dataset: Dataset, model: str = ""
) -> ModelVersion | None:
    """Register the network or the ensemble that a run trained, if it did.

    A training that is registered already, cached or not, keeps its version. Of the run's metrics,
    single numbers are kept.

    Parameters
    ----------
    cache, summary, dataset
        The store, the run, and what it was trained on.
    model
        The named model that it was trained for; by default that of the dataset.

    Returns
    -------
    ModelVersion or None
        None also, with a warning, where the store cannot keep a ledger of models: that is no
        reason to throw a training away.
    """
    trained = find_stage(summary.stages, "train")
    prepared = find_stage(summary.stages, "preprocess")
    calibrated = find_stage(summary.stages, "calibrate")
    if trained is None or prepared is None:
        return None
    fields = dict(
        run=summary.name,
        preset=summary.preset,
        dataset=summary.dataset,
        parameters=dict(summary.parameters),
        metrics={name: value for name, value in summary.metrics.items() if name != "per_class"},
        training=trained.key,
        data={name: prepared.outputs[name].sha256 for name in DATA},
        class_names=dataset.class_names,
        weights=trained.outputs["model"],
        predictions=trained.outputs["predictions"],
        image_size=_image_size(summary.stages),
        transposed=dataset.transposed,
        form=cache.read(prepared.outputs["form"]),
        calibration=None if calibrated is None else calibrated.outputs["calibration"],
    )
    try:
        return cache.models.register(model=model, dataset_name=dataset.name, **fields)
    except LedgerError as error:
        _log.warning("The model is not registered: %s", error)
        return None


def _image_size(stages: tuple[StageResult, ...]) -> tuple[int, int] | None:
    """Return what the reference to the decoded test images says, so that no array is opened."""
    for result in stages:
        if result.label == "decode-test-images":
            _, height, width = result.outputs["array"].details["shape"]
            return height, width
    return None


def check_comparable(cache: Store, challenger: ModelVersion, champion: ModelVersion) -> None:
    """Refuse a challenger that answers another question than the champion.

    Parameters
    ----------
    cache
        The store.
    challenger
        The model of the run whose test images both would be judged on.
    champion
        What it would be judged against.

    Raises
    ------
    ValueError
        If they are for other classes, or for images of another size.
    """
    if challenger.class_names != champion.class_names:
        _refuse(
            f"the classes of the champion, version {champion.version} "
            f"({', '.join(champion.class_names)})",
            ", ".join(challenger.class_names),
            challenger,
        )
    theirs, ours = Model(champion, cache).input_size, Model(challenger, cache).input_size
    # Only the number of pixels is known of some that an older digitflow registered.
    both_known = len(theirs) == len(ours) == 2
    if theirs != ours if both_known else math.prod(theirs) != math.prod(ours):
        _refuse(
            f"images of the champion's size, version {champion.version} ({_pixels(theirs)})",
            _pixels(ours),
            challenger,
        )


def _refuse(expected: str, found: str, challenger: ModelVersion) -> None:
    message = (
        f"expected {expected}, found {found}: give models for another task a name of their own "
        "(parameter model), or make this one the champion by hand: digitflow models promote "
        f"{challenger.version}"
    )
    raise ValueError(message)


def _pixels(size: tuple[int, ...]) -> str:
    return f"{' x '.join(str(side) for side in size)} pixels"
