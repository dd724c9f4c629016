"""Stores in temporary folders, with something in them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from digitflow.storage.objects import ObjectStore
from digitflow.storage.store import Store

Put = Callable[[bytes], str]


@pytest.fixture
def objects(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "objects")


@pytest.fixture
def put(objects: ObjectStore) -> Put:
    """Store bytes and return their name."""

    def put(data: bytes) -> str:
        with objects.temporary() as file:
            file.write_bytes(data)
            return objects.add(file)[0]

    return put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
