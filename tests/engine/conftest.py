"""A project of somebody's own, and a store."""

from pathlib import Path

import pytest

from digitflow.storage.store import Store
from tests import own_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of its module, which lies in the working directory."""
    return own_project.make(tmp_path / "project", monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")
