"""A tiny dataset, and a store in which its whole pipeline has run once."""

import shutil
from pathlib import Path

import pytest

from storage.cache import Cache
from tasks.data.sources import Dataset, from_directory
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
    return root, walk(Cache(root), tiny, run="first")


@pytest.fixture
def cache(finished: tuple[Path, Walk], tmp_path: Path) -> Cache:
    """A store of one's own in which everything is cached."""
    shutil.copytree(finished[0], tmp_path / "store")
    return Cache(tmp_path / "store")


@pytest.fixture
def first(finished: tuple[Path, Walk]) -> Walk:
    """The walk that filled the store."""
    return finished[1]


@pytest.fixture
def empty(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "empty")
