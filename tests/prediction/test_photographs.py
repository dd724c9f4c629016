"""The whole path: digits written on paper, photographed, saved as JPEG, and predicted."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.pictures.batch import read_batch
from digitflow.tasks.data.pictures.form import Form
from digitflow.tasks.nn.inference.predict import predict
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import train_network
from tests.data.pictures.drawing import photograph

pytestmark = [pytest.mark.data, pytest.mark.slow]

PHOTOGRAPHS = 300

Weights = dict[str, NDArray[np.generic]]


@pytest.fixture(scope="module")
def digits(mnist_directory: Path) -> NDArray[np.uint8]:
    return idx.decode(mnist_directory / "t10k-images-idx3-ubyte.gz")[:PHOTOGRAPHS]


@pytest.fixture(scope="module")
def weights(mnist_directory: Path) -> Weights:
    """A small network, trained for some seconds: 96 % right on the test set."""
    images = idx.decode(mnist_directory / "train-images-idx3-ubyte.gz")[:20_000]
    labels = idx.decode(mnist_directory / "train-labels-idx1-ubyte.gz")[:20_000]
    settings = {"hidden_sizes": (128,), "dropout": 0.2, "learning_rate": 0.002, "epochs": 5}
    return train_network(
        images,
        labels,
        images[:100],
        labels[:100],
        settings=TrainingSettings.model_validate({**settings, "validation_size": 0}),
        classes=10,
    ).weights


def test_photographs_are_predicted_as_the_digits_that_they_show(
    weights: Weights, digits: NDArray[np.uint8], tmp_path: Path
) -> None:
    rng = np.random.default_rng(20_261_125)
    for number, digit in enumerate(digits):
        photograph(digit, tmp_path / f"{number:03}.jpg", rng)
    batch = read_batch([tmp_path], Form((28, 28)))
    assert batch.unreadable == ()
    assert not batch.is_blank.any()
    seen = predict(weights, batch.images).argmax(axis=1)
    expected = predict(weights, digits).argmax(axis=1)
    assert np.mean(seen == expected) >= 0.97  # found 0.99


def test_a_saved_test_image_gives_the_very_prediction(
    weights: Weights, digits: NDArray[np.uint8], tmp_path: Path
) -> None:
    for number, digit in enumerate(digits[:50]):
        Image.fromarray(digit).save(tmp_path / f"{number:02}.png")
    np.save(tmp_path / "all.npy", digits[:50])
    pictures = read_batch(sorted(tmp_path.glob("*.png")), Form((28, 28)))
    arrays = read_batch([tmp_path / "all.npy"], Form((28, 28)))
    expected = predict(weights, digits[:50])
    assert np.array_equal(predict(weights, pictures.images), expected)
    assert np.array_equal(predict(weights, arrays.images), expected)
