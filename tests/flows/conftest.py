"""A tiny dataset, and a store in which its whole pipeline has run once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)

from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset, from_directory
from tests.servers.prefect_server import PrefectServer
from tests.walk import Walk, walk, write_dataset


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_directory: Path) -> Dataset:
    return from_directory(tiny_directory)


@pytest.fixture(scope="session")
def finished(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Walk]:
    """A store after one undisturbed walk, and what that walk did. Copy it: it is shared."""
    root = tmp_path_factory.mktemp("finished") / "store"
    return root, walk(Store(root), tiny, run="first")


@pytest.fixture
def cache(finished: tuple[Path, Walk], tmp_path: Path) -> Store:
    """A store of one's own in which everything is cached."""
    shutil.copytree(finished[0], tmp_path / "store")
    return Store(tmp_path / "store")


@pytest.fixture
def first(finished: tuple[Path, Walk]) -> Walk:
    """The walk that filled the store."""
    return finished[1]


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "empty")


@pytest.fixture
def on_the_server(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Run flows of this process on the real server, with a store and a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    settings = {
        PREFECT_API_URL: f"{prefect_server.url}/api",
        PREFECT_HOME: Path(prefect_server.environment["PREFECT_HOME"]),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    with temporary_settings(settings):
        yield
