"""What tests of several packages share: the canonical MNIST files, a real Prefect server."""

from pathlib import Path

import pytest

from tests.mnist import has_mnist, mnist_folder

pytest_plugins = ("tests.servers.fixtures",)


@pytest.fixture(scope="session")
def mnist_directory() -> Path:
    """The folder with the four canonical gzip files."""
    if not has_mnist():
        pytest.skip(f"no MNIST files in {mnist_folder()}; set DIGITFLOW_TEST_MNIST")
    return mnist_folder()
