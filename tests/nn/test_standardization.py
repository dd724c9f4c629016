"""Inputs have mean 0 and deviation 1, whatever greys the images have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from digitflow.tasks.nn.feed import Feed, FileRows, mean_and_deviation
from digitflow.tasks.nn.inference.model_file import (
    ARCHITECTURE,
    join_members,
    to_arrays,
    to_network,
)
from digitflow.tasks.nn.inference.onnx import to_onnx
from digitflow.tasks.nn.inference.predict import predict
from digitflow.tasks.nn.layers.base import Dense
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import train_network
from digitflow.tasks.parameters import PRESETS, resolve

ROWS = np.arange(40)


def images_of(seed: int, n: int = 40) -> Any:
    return np.random.default_rng(seed).integers(0, 200, (n, 6, 5), dtype=np.uint8)


def stripes(n: int, seed: int) -> tuple[Any, Any]:
    """Noisy stripes across or down."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    images = rng.integers(0, 120, (n, 8, 8))
    images[labels == 0, ::2] += 100
    images[labels == 1, :, ::2] += 100
    return images, labels


def test_the_mean_and_the_deviation_are_those_of_the_pixels():
    images = images_of(0)
    mean, deviation = mean_and_deviation(images, ROWS)
    assert mean == pytest.approx(images.mean() / 255)
    assert deviation == pytest.approx(images.std() / 255)
    assert mean_and_deviation(255 - images, ROWS, inverted=True) == (mean, deviation)


def test_only_images_that_are_learnt_from_count():
    images, rows = images_of(0), ROWS[::3]
    held_back = np.setdiff1d(ROWS, rows)
    changed = images.copy()
    changed[held_back] = 255
    assert mean_and_deviation(changed, rows[::-1]) == mean_and_deviation(images, rows)
    images, labels = stripes(60, 0)
    settings = TrainingSettings(validation_size=20, epochs=1, hidden_sizes=())
    sets = (images.astype(np.uint8), labels, images.astype(np.uint8), labels)
    network = to_network(train_network(*sets, settings=settings).weights)
    assert network.mean != mean_and_deviation(sets[0], np.arange(60))[0]


def test_many_images_are_measured_by_some_of_them(monkeypatch: pytest.MonkeyPatch):
    """Whatever order they are in: by turns black and white here."""
    import digitflow.tasks.nn.feed as module

    images = np.zeros((4000, 2, 2), np.uint8)
    images[::2] = 255
    monkeypatch.setattr(module, "_MEASURED_PIXELS", 4000)
    monkeypatch.setattr(module, "_MEASURED_AT_ONCE", 7)
    assert mean_and_deviation(images, np.arange(4000)) == pytest.approx((0.5, 0.5), abs=0.06)


def test_large_maps_are_measured_without_their_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("digitflow.tasks.nn.feed.MAPPED", 0)
    np.save(tmp_path / "x.npy", images_of(0))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    read = []
    take = FileRows.take
    monkeypatch.setattr(
        FileRows, "take", lambda self, rows, out: (read.extend(rows), take(self, rows, out))
    )
    assert mean_and_deviation(mapped, ROWS) == mean_and_deviation(images_of(0), ROWS)
    assert read == [*ROWS]


@pytest.mark.parametrize("images", [images_of(1), images_of(1)[:1], images_of(1) / np.float32(255)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_have_mean_0_and_deviation_1(images: Any, dtype: str):
    levels = np.rint(images * 255).astype(np.uint8) if images.dtype.kind == "f" else images
    mean, deviation = mean_and_deviation(levels, np.arange(len(images)))
    feed = Feed(images, (30,), dtype, mean=mean, deviation=deviation)
    x = feed.load(slice(0, len(images)))
    assert x.dtype == dtype
    assert x.mean() == pytest.approx(0, abs=1e-5)
    assert x.std() == pytest.approx(1, abs=1e-5)


def test_images_of_one_grey_are_not_divided_by_nothing():
    assert mean_and_deviation(np.full((3, 2, 2), 255, np.uint8), np.arange(3)) == (1.0, 1.0)


@pytest.mark.parametrize("channels", [(), (4,)])
def test_faint_images_are_learnt_as_well_as_others(channels: tuple[int, ...]):
    """A tenth of the contrast, on a light grey: without standardisation a dense network is lost."""
    (images, labels), (test, test_labels) = stripes(300, 0), stripes(200, 1)

    def accuracy(*, standardization: bool, faint: bool) -> float:
        first, second = (
            np.rint(180 + each / 10 if faint else each).astype(np.uint8) for each in (images, test)
        )
        settings = TrainingSettings(
            convolution_channels=channels,
            hidden_sizes=(16,),
            epochs=8,
            batch_size=32,
            standardization=standardization,
        )
        result = train_network(first, labels, second, test_labels, settings=settings)
        return float((result.outputs.argmax(axis=1) == test_labels).mean())

    plain, faint = (accuracy(standardization=True, faint=each) for each in (False, True))
    assert plain >= 0.95
    assert faint >= plain - 0.02
    assert accuracy(standardization=False, faint=True) < 0.8


def test_the_tutorial_alone_takes_pixels_from_0_to_1():
    without = [name for name in PRESETS if not resolve(name, {}).standardization]
    assert without == ["tutorial"]


def networks() -> list[Network]:
    return [
        Network(
            [Dense(3)],
            (30,),
            randomness=Randomness.from_seed(seed),
            mean=mean,
            deviation=deviation,
        )
        for seed, mean, deviation in ((0, 0.1, 0.3), (1, 0.0, 0.2), (2, 0.4, 1.0))
    ]


@pytest.mark.parametrize("network", networks(), ids=["both", "deviation", "mean"])
def test_a_stored_network_scales_as_it_did(network: Network):
    images = images_of(2)
    expected = network.predict(images)
    weights = to_arrays(network)
    assert np.array_equal(to_network(weights).predict(images), expected)
    found = onnx_logits(weights, images)
    assert np.abs(found - expected).max() <= 1e-5


def test_each_member_of_an_ensemble_scales_as_it_learnt():
    images = images_of(3)
    ensemble = join_members([to_arrays(each) for each in networks()], "cross_entropy")
    assert np.abs(onnx_logits(ensemble, images) - predict(ensemble, images)).max() <= 1e-5


@pytest.mark.parametrize("change", [{"deviation": 0.0}, {"deviation": -1}, {"mean": float("nan")}])
def test_a_file_whose_scale_makes_no_sense_is_refused(change: dict[str, float]):
    weights = to_arrays(networks()[0])
    description = {**json.loads(weights[ARCHITECTURE].tobytes()), **change}
    weights[ARCHITECTURE] = np.frombuffer(json.dumps(description).encode(), np.uint8)
    with pytest.raises(ValueError, match="a finite mean and a finite deviation above 0"):
        to_network(weights)


def onnx_logits(weights: dict[str, Any], images: Any) -> Any:
    model = to_onnx(weights, loss="cross_entropy").SerializeToString()
    return onnxruntime.InferenceSession(model).run(["logits"], {"images": images})[0]
