"""The stage `calibrate`: kept with the version, and asked at every prediction."""

from pathlib import Path

import numpy as np
import pytest

from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import from_directory
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.pictures.batch import read_batch
from digitflow.tasks.gate.candidate import register_model
from digitflow.tasks.nn.inference.predict import predict
from digitflow.tasks.parameters import resolve
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.reporting.run_summary import RunSummary
from tests.walk import TINY, Walk, walk, write_dataset

# Enough to be learnt: who hardly tells classes apart tells no outliers.
SMALL = {**TINY, "training_sample": 0, "validation_size": 300, "epochs": 20, "batch_size": 32}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "made", training=1_200, test=200)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def done(cache: Store, place: Path) -> Walk:
    return walk(cache, from_directory(place), resolve("quick", SMALL))


def registered(cache: Store, done: Walk, place: Path) -> Model:
    parameters = {"loss": "cross_entropy"}
    stages = tuple(done.results.values())
    summary = RunSummary("calm-owl", "made", "quick", parameters, stages, 0.0, {}, place)
    version = register_model(cache, summary, from_directory(place))
    assert version is not None
    return Model(version, cache)


def test_test_images_pass_and_noise_does_not(cache: Store, done: Walk, place: Path) -> None:
    model = registered(cache, done, place)
    assert model.calibration is not None
    test = read_batch([place / "t10k-images-idx3-ubyte.gz"], model.form)
    assert np.mean([each.unsure for each in model.predict_batch(test)]) <= 0.04
    noise = place.parent / "noise-idx3-ubyte.gz"
    idx.write(noise, np.random.default_rng(1).integers(0, 256, (40, 9, 7), dtype=np.uint8))
    predictions = model.predict_batch(read_batch([noise], model.form))
    assert np.mean([each.unsure for each in predictions]) >= 0.5  # found 0.7
    assert {each.doubt for each in predictions if each.unsure} == {"unlike the training images"}
    images = idx.decode(noise)
    told = model.calibration.told(images, predict(cache.read(model.version.weights), images), None)
    assert told["unsure"].tolist() == [bool(each.unsure) for each in predictions]


def test_what_it_tells_of_the_test_images_is_what_predictions_say(
    cache: Store, done: Walk, place: Path
) -> None:
    model = registered(cache, done, place)
    test = read_batch([place / "t10k-images-idx3-ubyte.gz"], model.form)
    predictions = model.predict_batch(test)[: SMALL["test_sample"]]
    tested = cache.read(done.output("calibrate", "tested"))
    assert tested["unsure"].tolist() == [bool(each.unsure) for each in predictions]
    said = [each.probability for each in predictions]
    np.testing.assert_allclose(tested["confidence"], said, rtol=1e-4)
    metrics = cache.read(done.output("evaluate", "metrics"))
    assert metrics["unsure"] == sum(tested["unsure"])
    assert metrics["mean_confidence"] == pytest.approx(np.mean(said), rel=1e-4)


def test_its_probabilities_are_calibrated(cache: Store, done: Walk, place: Path) -> None:
    model = registered(cache, done, place)
    assert model.calibration is not None
    shown = idx.decode(place / "t10k-images-idx3-ubyte.gz")[:20]
    outputs = cache.read(model.version.predictions)["outputs"]
    powers = np.exp(outputs.astype(float) / model.calibration.temperature)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(shown), expected, rtol=1e-4)


def test_the_store_keeps_it_and_a_version_without_gets_it(cache: Store, place: Path) -> None:
    again = walk(cache, from_directory(place), resolve("quick", {**SMALL, "seed": 1}))
    without = Walk({name: each for name, each in again.results.items() if name != "calibrate"})
    older = registered(cache, without, place)
    assert older.version.calibration is None
    assert older.calibration is None
    newer = registered(cache, again, place)
    assert newer.version.version == older.version.version
    assert newer.version.calibration == again.output("calibrate", "calibration")
    assert newer.version.calibration.sha256 in set(cache.models.references())


def test_images_beyond_the_sample_calibrate_the_tutorials_network(
    cache: Store, place: Path
) -> None:
    parameters = resolve("tutorial", {**TINY, "training_sample": 600})
    done = walk(cache, from_directory(place), parameters)
    assert cache.read(done.output("calibrate", "calibration"))["images"] == 600
    parameters = resolve("tutorial", {**TINY, "training_sample": 0})
    done = walk(cache, from_directory(place), parameters)
    assert cache.read(done.output("calibrate", "calibration"))["images"] == 0
    assert not len(cache.read(done.output("calibrate", "tested"))["confidence"])
    assert "unsure" not in cache.read(done.output("evaluate", "metrics"))
