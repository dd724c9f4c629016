"""What differs between a model version and another one: how it was made, and what it gets right.

Light until images are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from digitflow.storage.errors import StorageError
from digitflow.storage.formats.artifacts import read_artifact
from digitflow.storage.history.models import ModelVersion, tested_alike
from digitflow.storage.records import Record
from digitflow.storage.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """Test images on which two versions differ.

    Attributes
    ----------
    total
        Number of test images, the same for both.
    gained, lost
        Positions of those that only the one, and only the other gets right.
    """

    total: int
    gained: tuple[int, ...]
    lost: tuple[int, ...]


@dataclass(frozen=True)
class Difference:
    """What differs between a version and the one that it is held against.

    Attributes
    ----------
    parameters
        Pairs by name: the other's value, and the version's.
    data
        Names of what they were trained or tested on that has other bytes.
    code
        Names of definitions, modules or libraries that differ; None if a record of a training is
        gone, so that nobody knows.
    images
        Where they differ on the test images; None if those are not the same, or not there.
    problem
        Why there is nothing about images.
    """

    parameters: dict[str, tuple[Any, Any]]
    data: tuple[str, ...]
    code: tuple[str, ...] | None
    images: Images | None
    problem: str = ""


def difference(cache: Store, version: ModelVersion, other: ModelVersion) -> Difference:
    """Return what differs between a version and another one."""
    images, problem = _images(cache, version, other)
    return Difference(
        _pairs(_asked(other), _asked(version)),
        tuple(_pairs(dict(other.data), dict(version.data))),
        _code(cache, version, other),
        images,
        problem,
    )


def _asked(version: ModelVersion) -> dict[str, Any]:
    return {"dataset": version.dataset, "preset": version.preset, **version.parameters}


def _pairs(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*old, *new])
    pairs = {name: (old.get(name), new.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _code(cache: Store, version: ModelVersion, other: ModelVersion) -> tuple[str, ...] | None:
    if version.training == other.training:
        return ()
    records = [_training(cache, each) for each in (other, version)]
    if records[0] is None or records[1] is None:
        return None
    old, new = (_flat(dict(record.document["code"])) for record in records if record)
    return tuple(_pairs(old, new))


def _flat(document: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Return a nested document as values by the names that lead to them."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{within}{name}"
        flat |= _flat(value, f"{path} ") if isinstance(value, dict) else {path: value}
    return flat


def _training(cache: Store, version: ModelVersion) -> Record | None:
    for stage in ("train", "combine", *cache.records.stages()):
        try:
            found = cache.records.load(stage, version.training)
        except (StorageError, ValueError):
            continue
        if found is not None:
            return found
    return None


def _images(cache: Store, version: ModelVersion, other: ModelVersion) -> tuple[Images | None, str]:
    if not tested_alike(version, other):
        return None, "they were tested on different images, so their accuracies do not compare"
    try:
        if not version.is_of_images:
            return _rows(cache.read(version.predictions), cache.read(other.predictions)), ""
        labels = read_artifact("npy", cache.objects.verify(version.data["test_targets"]))
        ours, theirs = (_right(cache, each, labels) for each in (version, other))
    except (StorageError, KeyError, ValueError) as error:
        return None, f"their answers cannot be compared: {error}"
    return _rows(ours, theirs), ""


def _rows(ours: NDArray[Any], theirs: NDArray[Any]) -> Images:
    gained, lost = (found.nonzero()[0].tolist() for found in (ours > theirs, theirs > ours))
    return Images(len(ours), tuple(gained), tuple(lost))


def _right(cache: Store, version: ModelVersion, labels: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    from digitflow.tasks.gate.rules import right_answers

    outputs = np.asarray(cache.read(version.predictions)["outputs"])
    if len(outputs) != len(labels):
        message = f"expected outputs for {len(labels)} images, found {len(outputs)}"
        raise ValueError(message)
    return right_answers(outputs, labels)
