"""What a model predicts for pictures: the class of each, how sure it is, and the runner-up.

Light until something is predicted: it needs no Prefect, and arrays only then.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digitflow.storage.batches import BatchRecord
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.models import ModelVersion
from digitflow.storage.os_errors import explaining
from digitflow.storage.records import now
from digitflow.storage.store import Store
from digitflow.tasks.parameters import ParameterError

if TYPE_CHECKING:
    from digitflow.tasks.data.pictures.batch import Batch

BLANK = "blank"

COLUMNS = ("picture", "class", "probability", "runner_up", "runner_up_probability", "note")


@dataclass(frozen=True)
class Prediction:
    """What a model predicts for one picture.

    Attributes
    ----------
    picture
        Its file, with its place in a file of several.
    label
        Name of the most probable class; None if nothing is on the picture.
    probability
        Of that class, 0 to 1; 0 if nothing is on the picture.
    runner_up, runner_up_probability
        The second most probable class, likewise.
    """

    picture: str
    label: str | None
    probability: float
    runner_up: str | None
    runner_up_probability: float


def model_to_use(cache: Store, version: int | None) -> ModelVersion:
    """Return a model version, by default the champion.

    Raises
    ------
    UnknownNameError
        If there is no such version, or no champion; says what to do about it.
    """
    if version is not None:
        return cache.models.load(version)
    champion = cache.models.champion()
    if champion is not None:
        return champion
    newest = max((model.version for model in cache.models.oldest_first()), default=None)
    todo = (
        "train a model and promote it: digitflow run, then digitflow models promote 1"
        if newest is None
        else f"promote a model: digitflow models promote {newest}; or choose one: --model {newest}"
    )
    message = f"there is no champion to predict with; {todo}"
    raise UnknownNameError(message)


def input_size(cache: Store, model: ModelVersion) -> tuple[int, ...]:
    """Return (height, width) of the images that a model takes, or (pixels,) where that is all.

    What an older digitflow registered has no record of it; its layers may know.

    Raises
    ------
    StorageError
        If the size is not recorded, and the model's weights are lost or damaged.
    """
    if model.image_size is not None:
        return model.image_size
    from digitflow.tasks.nn.predict import input_shape

    return input_shape(dict(cache.read(model.weights)))[-2:]


def image_size_of(cache: Store, model: ModelVersion) -> tuple[int, int]:
    """Return height and width, in pixels, of the images that a model takes.

    Where only the number of pixels is known, a square number is taken for a square.

    Raises
    ------
    StorageError
        If they are not recorded, and the model's weights are lost or damaged.
    ParameterError
        If they are not recorded, and cannot be told from the weights either.
    """
    size = input_size(cache, model)
    if len(size) == 2:
        return size[0], size[1]
    (pixels,) = size
    side = math.isqrt(pixels)
    if side * side != pixels:
        message = (
            f"expected a model whose image size is on record, found version {model.version} of an "
            f"older digitflow: it takes {pixels} pixels, not a square number. Repeat the run that "
            f"trained it ({model.dataset}, preset {model.preset}): it computes nothing that is "
            "cached, and records the size"
        )
        raise ParameterError(message)
    return side, side


def predict_batch(cache: Store, model: ModelVersion, batch: Batch) -> list[Prediction]:
    """Predict what is on each picture of a batch, in one pass.

    Raises
    ------
    StorageError
        If the model's weights are lost or damaged.
    ValueError
        If the pictures do not fit the model.
    """
    import numpy as np

    from digitflow.tasks.nn.predict import predict, probabilities

    outputs = predict(dict(cache.read(model.weights)), batch.images)
    shares = probabilities(outputs, loss_of(model))
    # Stable, so that of two equal ones the first class is named, as argmax does.
    order = np.argsort(-outputs, axis=1, kind="stable")
    names = model.class_names
    return [
        Prediction(picture, None, 0.0, None, 0.0)
        if is_blank
        else Prediction(picture, names[first], float(row[first]), names[second], float(row[second]))
        for picture, is_blank, row, (first, second) in zip(
            batch.names, batch.is_blank, shares, order[:, :2], strict=True
        )
    ]


def loss_of(model: ModelVersion) -> str:
    """Return the loss that a model was trained on: it says what its outputs mean."""
    return str(model.parameters["loss"])


def record_batch(
    cache: Store,
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


def predictions_json(
    model: ModelVersion, predictions: Sequence[Prediction], unreadable: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return predictions as a JSON object."""
    return {
        "model": model.version,
        "predictions": [
            {
                "picture": each.picture,
                "class": each.label,
                "probability": each.probability,
                "runner_up": each.runner_up,
                "runner_up_probability": each.runner_up_probability,
                "blank": each.label is None,
            }
            for each in predictions
        ],
        "unreadable": [{"file": name, "problem": problem} for name, problem in unreadable],
    }


def predictions_csv(
    predictions: Sequence[Prediction], unreadable: Sequence[tuple[str, str]]
) -> str:
    """Return predictions as CSV; what is blank or unreadable has a note instead of a class."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in predictions:
        if each.label is None:
            writer.writerow([each.picture, "", "", "", "", BLANK])
            continue
        first, second = f"{each.probability:.6f}", f"{each.runner_up_probability:.6f}"
        writer.writerow([each.picture, each.label, first, each.runner_up, second, ""])
    for name, problem in unreadable:
        writer.writerow([name, "", "", "", "", f"unreadable: {problem}"])
    return text.getvalue()
