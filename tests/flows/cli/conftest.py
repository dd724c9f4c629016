"""The command line, in this process and without starting Prefect."""

import socket
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import DATASETS
from tests.answers import SET_TINY, Answer, Cli
from tests.terminal import pretend_a_terminal


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a store and a home of the test's own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> str:
    """Leave MNIST with one mirror, on a port of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    mirror = f"http://127.0.0.1:{port}/mnist/"
    known = {**DATASETS, "mnist": replace(DATASETS["mnist"], mirrors=(mirror,))}
    monkeypatch.setattr("digitflow.tasks.data.datasets.sources.DATASETS", MappingProxyType(known))
    return mirror


@pytest.fixture
def cli(
    alone: None,
    unreachable: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    """Return `digitflow`, alone in a folder, without a mirror, and where Prefect may not start."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        pytest.fail("Prefect was started")

    monkeypatch.setattr("digitflow.flows.cli.session.EmbeddedServer", refuse)

    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = main(list(arguments))
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_a_terminal(monkeypatch)


@pytest.fixture
def run_tiny(cli: Cli, cache: Store, tiny_directory: Path) -> Cli:
    """`digitflow run` on the tiny dataset, all of whose stages are cached."""
    return lambda *arguments: cli("run", "--dataset", str(tiny_directory), *SET_TINY, *arguments)
