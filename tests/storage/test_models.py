"""The registry: versions that stay, an alias that moves whole, and a way back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.cache import Cache
from digitflow.storage.documents import checksummed, read_checksummed
from digitflow.storage.errors import MovedMeanwhileError, RecordDamagedError, UnknownNameError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.gc import find_garbage
from digitflow.storage.models import ModelStore, ModelVersion, Move, previous

DIGEST = "ab" * 32


def fields(weights: str = DIGEST, **changes: Any) -> dict[str, Any]:
    return {
        "run": "calm-owl",
        "preset": "quick",
        "dataset": "MNIST",
        "parameters": {"epochs": 3},
        "metrics": {"test_accuracy": 0.97},
        "training": "cd" * 32,
        "data": {"test_inputs": "ef" * 32},
        "class_names": ("0", "1"),
        "weights": Artifact(weights, 10, "npz"),
        "predictions": Artifact("12" * 32, 20, "npz"),
        **changes,
    }


@pytest.fixture
def models(tmp_path: Path) -> ModelStore:
    return ModelStore(LocalBackend(tmp_path))


def test_versions_count_from_one_and_come_back_as_they_went_in(models: ModelStore) -> None:
    first = models.register(**fields())
    second = models.register(**fields("34" * 32))
    assert (first.version, second.version) == (1, 2)
    assert models.load(1) == first
    assert list(models.oldest_first()) == [first, second]
    assert first.class_names == ("0", "1")


def test_a_training_that_is_registered_keeps_its_version(models: ModelStore) -> None:
    first = models.register(**fields())
    assert models.register(**fields(run="another-run")) == first
    assert len(list(models.oldest_first())) == 1


def test_the_images_that_a_model_takes_come_back(models: ModelStore) -> None:
    models.register(**fields(image_size=(9, 7), transposed=True))
    loaded = models.load(1)
    assert (loaded.image_size, loaded.transposed) == ((9, 7), True)


def older(models: ModelStore, **changes: Any) -> ModelVersion:
    """Register a version, and make its record one of a digitflow that kept no image size."""
    model = models.register(**fields(**changes))
    path = models.root / "versions" / f"{model.version:06d}.json"
    body = read_checksummed(path)
    del body["image_size"], body["transposed"]
    path.write_bytes(checksummed(body))
    return model


def test_a_record_of_an_older_digitflow_is_read(models: ModelStore) -> None:
    model = older(models)
    assert models.load(1) == model
    assert (models.load(1).image_size, models.load(1).transposed) == (None, False)
    assert list(models.versions.damaged()) == []


def test_trained_once_more_an_older_version_learns_its_image_size_and_nothing_else(
    models: ModelStore,
) -> None:
    model = older(models)
    known = {"image_size": (9, 7), "transposed": True}
    completed = models.register(**fields(run="another-run", **known))
    assert completed == replace(model, **known)
    assert list(models.oldest_first()) == [completed]
    # Known once, it stays.
    assert models.register(**fields(image_size=(7, 9))) == completed
    assert models.register(**fields()) == completed
    assert models.load(1) == completed


@pytest.mark.parametrize("size", [[9], [9, 7, 1], 9, "9 x 7"])
def test_an_image_size_that_is_none_is_damage(models: ModelStore, size: Any) -> None:
    models.register(**fields(image_size=(9, 7)))
    path = models.root / "versions" / "000001.json"
    path.write_bytes(checksummed({**read_checksummed(path), "image_size": size}))
    with pytest.raises(RecordDamagedError, match="model version 1 is damaged"):
        models.load(1)


@pytest.mark.parametrize(
    "change", [{"training": "00" * 32}, {"data": {"test_inputs": "00" * 32}}, {"weights": None}]
)
def test_other_code_data_or_weights_are_another_version(
    models: ModelStore, change: dict[str, Any]
) -> None:
    models.register(**fields())
    if change == {"weights": None}:
        change = {"weights": Artifact("56" * 32, 10, "npz")}
    assert models.register(**{**fields(), **change}).version == 2


def test_an_unknown_version_is_refused_with_those_there_are(models: ModelStore) -> None:
    with pytest.raises(UnknownNameError, match="found 7; there are none yet"):
        models.load(7)
    models.register(**fields())
    with pytest.raises(UnknownNameError, match="found 7; there are 1"):
        models.promote(7, "by hand")


def test_promoting_and_going_back(models: ModelStore) -> None:
    for number in range(3):
        models.register(**fields(f"{number:064x}"))
    assert models.champion() is None
    with pytest.raises(UnknownNameError, match="no earlier version"):
        models.rollback()
    for version in (1, 2, 3):
        models.promote(version, "better")
    assert [move.version for move in models.moves()] == [1, 2, 3]
    assert models.rollback().version == 2
    assert models.rollback().version == 1
    with pytest.raises(UnknownNameError, match="no earlier version"):
        models.rollback()
    champion = models.champion()
    assert champion is not None
    assert champion.version == 1
    assert [move.version for move in models.moves()] == [1, 2, 3, 2, 1]
    assert models.moves()[-1].why == "rolled back from version 2"


def test_a_decision_about_another_champion_moves_nothing(models: ModelStore) -> None:
    for number in range(3):
        models.register(**fields(f"{number:064x}"))
    models.promote(1, "first", judged_against=None)
    models.promote(2, "better", judged_against=1)
    for judged_against in (1, None):
        with pytest.raises(MovedMeanwhileError, match=f"version {judged_against}, found 2"):
            models.promote(3, "better than 1", judged_against=judged_against)
    assert [move.version for move in models.moves()] == [1, 2]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [((), None), ((1,), None), ((1, 1), None), ((1, 2), 1), ((1, 2, 1), 2), ((1, 2, 2), 1)],
)
def test_the_version_to_go_back_to(versions: tuple[int, ...], expected: int | None) -> None:
    assert previous(tuple(Move(version, "", "by hand") for version in versions)) == expected


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "other"])
def test_a_damaged_version_is_not_served_and_its_number_not_reused(
    models: ModelStore, damage: str
) -> None:
    models.register(**fields())
    models.register(**fields("34" * 32))
    path = models.root / "versions" / "000002.json"
    text = path.read_bytes()
    path.write_bytes(
        {
            "flip": text.replace(b"calm-owl", b"calm-oxl"),
            "truncate": text[:100],
            "empty": b"",
            "other": (models.root / "versions" / "000001.json").read_bytes(),
        }[damage]
    )
    with pytest.raises(RecordDamagedError, match="damaged"):
        models.load(2)
    assert [name for name, _ in models.versions.damaged()] == [path.stem]
    assert models.register(**fields("78" * 32)).version == 3


def test_a_damaged_alias_is_said_and_never_guessed(models: ModelStore) -> None:
    models.register(**fields())
    models.promote(1, "first")
    path = models.root / "aliases" / "champion.json"
    body = json.loads(path.read_text())
    body["moves"][0]["version"] = 9
    path.write_text(json.dumps(body))
    with pytest.raises(RecordDamagedError, match="does not match its digest"):
        models.champion()
    assert [name for name, _ in models.aliases.damaged()] == [path.stem]


def test_an_alias_cannot_become_another_path(models: ModelStore) -> None:
    models.register(**fields())
    with pytest.raises(UnknownNameError, match="expected an alias"):
        models.promote(1, "first", "../champion")


def test_a_sweep_keeps_what_versions_refer_to(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.objects.temporary() as file:
        file.write_bytes(b"weights")
        sha256, size = cache.objects.add(file)
    path = cache.objects.path(sha256)
    old = path.stat().st_mtime - 10_000_000
    os.utime(path, (old, old))
    assert find_garbage(cache, 0).count("object") == 1
    cache.models.register(**fields(weights=sha256))
    assert find_garbage(cache, 0).count("object") == 0
