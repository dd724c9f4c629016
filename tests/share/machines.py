"""Machines as processes of their own: own home, own cache, own environment."""

import multiprocessing
import os
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np

from digitflow.storage.history.runs import RunRecord
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store
from tests.patience import PATIENCE
from tests.share.work import squares

_FORK_SERVER = multiprocessing.get_context("forkserver")


def start(
    work: Callable[..., object], environment: Mapping[str, str], *arguments: object
) -> ForkServerProcess:
    """Start a process that has only this environment."""
    _FORK_SERVER.set_forkserver_preload(["tests.share.machines", "obstore", "filelock"])
    process = _FORK_SERVER.Process(target=_work, args=(work, dict(environment), *arguments))
    process.start()
    return process


def finish(process: ForkServerProcess) -> None:
    """Wait for a process, which must end well."""
    process.join(PATIENCE)
    assert process.exitcode == 0, f"exit code {process.exitcode}"


def compute_and_note(run: str) -> None:
    """Compute the squares and note the run, as a run of the pipeline does."""
    store = Store()
    store.connect()
    squares(store, run=run)
    store.runs.save(
        RunRecord(run, "2026-01-01T00:00:00.000+00:00", 1.0, "p", "d", {}, (), {}, None)
    )


def compute_large(size: int) -> None:
    """Compute one object of so many bytes."""
    Store().cache.obtain(
        StageKey("large", {}, {"size": size}, {}),
        "large",
        lambda scratch: {"bytes": np.random.default_rng(0).integers(0, 255, size, np.uint8)},
        {"bytes": "npy"},
        run="large",
    )


def _work(work: Callable[..., object], environment: dict[str, str], *arguments: object) -> None:
    os.environ.clear()
    os.environ.update(environment)
    Path(environment["HOME"]).mkdir(exist_ok=True)
    work(*arguments)
