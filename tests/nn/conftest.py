"""MNIST as arrays, read without the project's own decoder."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Mnist = dict[str, NDArray[np.uint8]]


def read_idx(path: Path, header: int) -> NDArray[np.uint8]:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header)


@pytest.fixture(scope="session")
def mnist(mnist_directory: Path) -> Mnist:
    """The four arrays of MNIST: images (n, 28, 28) and labels (n,), uint8."""
    arrays = {}
    for name, prefix in (("training", "train"), ("test", "t10k")):
        images = read_idx(mnist_directory / f"{prefix}-images-idx3-ubyte.gz", 16)
        arrays[f"{name}_images"] = images.reshape(-1, 28, 28)
        arrays[f"{name}_labels"] = read_idx(mnist_directory / f"{prefix}-labels-idx1-ubyte.gz", 8)
    return arrays
