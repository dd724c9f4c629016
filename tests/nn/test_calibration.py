"""What a model can tell: fitted on images that it did not learn from, and only if there are any."""

import numpy as np
import pytest

from digitflow.tasks.nn.inference.calibration import Calibration, fit_calibration, unlearnt
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import split

CLASSES = np.arange(2_000) % 10
# A model that sees how much ink there is in the upper and in the lower half of an image.
HALVES = {"weights_1": np.repeat(np.eye(2), 8, axis=0), "weights_2": np.eye(2)}


def test_images_beyond_the_sample_were_not_learnt_from() -> None:
    learnt, rest = unlearnt(CLASSES, 600, [TrainingSettings()])
    assert np.array_equal(learnt, np.arange(600))
    assert np.array_equal(rest, np.arange(600, 2_000))


def test_nor_were_those_that_training_held_back() -> None:
    settings = TrainingSettings(seed=3)
    learnt, rest = unlearnt(CLASSES, 0, [settings])
    expected = split(CLASSES, settings, Randomness.from_seed(3))
    assert np.array_equal(learnt, expected[0])
    assert np.array_equal(rest, expected[1])
    assert len(rest) == 200


def test_of_an_ensemble_every_member_held_them_back() -> None:
    members = [TrainingSettings(seed=seed, validation_size=1_000) for seed in (1, 2)]
    learnt, rest = unlearnt(CLASSES, 0, members)
    for each in members:
        assert not np.isin(rest, unlearnt(CLASSES, 0, [each])[0]).any()
    assert len(learnt) + len(rest) == 2_000
    assert 300 < len(rest) < 700


def test_where_all_were_learnt_from_it_cannot_tell() -> None:
    learnt, rest = unlearnt(CLASSES, 0, [TrainingSettings(validation_size=0)])
    assert (len(learnt), len(rest)) == (2_000, 0)
    images = np.zeros((2_000, 4, 4), np.uint8)
    fitted = fit_calibration(HALVES, images, CLASSES, learnt, rest, None)
    assert Calibration.from_arrays(fitted) is None


@pytest.fixture
def calibration() -> Calibration:
    rng = np.random.default_rng(1)
    classes = rng.integers(0, 2, 800)
    images = np.zeros((800, 4, 4), np.uint8)
    images[classes == 0, :2] = 200
    images[classes == 1, 2:] = 200
    images += rng.integers(0, 40, images.shape, dtype=np.uint8)
    found = np.ones(400, int)
    fitted = fit_calibration(HALVES, images, classes, np.arange(400), np.arange(400, 800), found)
    made = Calibration.from_arrays(fitted)
    assert made is not None
    return made


def test_says_why_it_is_unsure(calibration: Calibration) -> None:
    known = np.zeros((4, 4), np.uint8)
    known[:2] = 215
    known[2:] = 20
    noise = np.random.default_rng(2).integers(0, 256, (4, 4), dtype=np.uint8)
    images = np.stack([known, noise, known])
    outputs = images.reshape(3, 2, 8).sum(axis=2) / 255
    assert calibration.unsure(images, outputs, np.array([1, 1, 2])) == [
        "",
        "unlike the training images",
        "2 side by side",
    ]
    assert calibration.unsure(images, outputs, None)[2] == ""


def test_its_probabilities_are_those_of_the_temperature(calibration: Calibration) -> None:
    # Never wrong on what it was fitted on: as sure as may be.
    assert calibration.temperature < 0.1
    shares = calibration.probabilities(np.array([[5.0, 1.0]]))
    assert shares[0, 0] > 0.99
