"""Where the canonical MNIST files are, for tests that use them if they can."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def mnist_folder() -> Path:
    """The folder in which tests look for the four files, there or not."""
    named = os.environ.get("DIGITFLOW_TEST_MNIST")
    return Path(named) if named else ROOT.parent / "shared" / "data" / "mnist"


def has_mnist() -> bool:
    """Whether the files are there."""
    return (mnist_folder() / "train-images-idx3-ubyte.gz").is_file()
