"""What tests of several packages share: their environment, the MNIST files, a Prefect server."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings

from tests import environment  # first: the rest finds what it leaves
from tests.mnist import has_mnist, mnist_folder

pytest_plugins = ("tests.servers.fixtures", "tests.servers.wheel")

# A slow machine is no failure, and hypothesis's own deadline is a fifth of a second. Its examples
# may share the test's folder: each writes its files anew.
settings.register_profile(
    "digitflow",
    settings.get_profile("default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("digitflow")


@pytest.fixture(scope="session", autouse=True)
def _screen() -> Iterator[None]:
    """Keep from tests what pytest's own report is written to."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in environment.SCREEN:
            monkeypatch.setenv(name, "")  # GNU readline sets some behind Python's back
            monkeypatch.delenv(name)
        monkeypatch.setenv("COLUMNS", "80")
        yield


@pytest.fixture(autouse=True)
def _environment_as_before() -> Iterator[None]:
    """Undo what the code that a test calls does to the environment, as Dask does."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="session")
def mnist_directory() -> Path:
    """The folder with the four canonical gzip files."""
    if not has_mnist():
        pytest.skip(f"no MNIST files in {mnist_folder()}; set DIGITFLOW_TEST_MNIST")
    return mnist_folder()
