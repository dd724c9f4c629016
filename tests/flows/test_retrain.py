"""The retraining flow on a real Prefect server: promoted, unchanged, rejected, failed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.retrain import retrain
from storage.cache import Cache
from tasks.data import idx
from tests.servers.prefect_server import PrefectServer
from tests.servers.processes import wait_for
from tests.walk import write_dataset

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

SETTINGS = {
    "preset": "quick",
    "hidden_sizes": [16],
    "validation_size": 0,
    "batch_size": 16,
    "dpi": 40,
    "floor": 0.2,
}

Retrain = Callable[..., tuple[str, str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "days", training=300, test=200)


@pytest.fixture
def run(prefect_server: PrefectServer, data: Path) -> Retrain:
    """Retrain and return the state that an operator sees, and the decision in the UI."""

    def run(**parameters: Any) -> tuple[str, str]:
        given = {"dataset": str(data), **SETTINGS, **parameters}
        state = retrain(**given, return_state=True)
        shown = prefect_server.ask(f"/flow_runs/{state.state_details.flow_run_id}")
        asked = {"artifacts": {"flow_run_id": {"any_": [shown["id"]]}}}
        artifacts = {each["key"]: each for each in prefect_server.ask("/artifacts/filter", asked)}
        decision = artifacts.get("digitflow-decision", {"data": ""})
        return shown["state_name"], decision["data"]

    return run


def champion() -> int | None:
    model = Cache().models.champion()
    return None if model is None else model.version


def poison(folder: Path, share: float) -> None:
    """Give a share of the training images wrong labels."""
    path = folder / "train-labels-idx1-ubyte.gz"
    labels = idx.decode(path).copy()
    wrong = np.random.default_rng(1).choice(len(labels), int(share * len(labels)), replace=False)
    labels[wrong] = (labels[wrong] + 5) % 10
    idx.write(path, labels)


def test_a_week(run: Retrain, data: Path, prefect_server: PrefectServer) -> None:
    # Day 1: the first model, a weak one, needs the floor only.
    state, decision = run(epochs=1, learning_rate=0.0005, floor=0.0)
    assert state == "Promoted"
    assert "Version 1 is the champion" in decision
    assert "no champion yet" in decision

    # Day 2: a better one takes its place, with the numbers that led to it.
    state, decision = run(epochs=12)
    assert (state, champion()) == ("Promoted", 2)
    assert "in place of version 1" in decision
    assert "McNemar's exact test: p = " in decision
    assert "| recall of 7 |" in decision

    # Day 3: nothing has changed, which is a success that says so.
    state, decision = run(epochs=12)
    assert (state, champion()) == ("Unchanged", 2)
    assert "nothing to do" in decision

    # Day 4: nearly all labels are wrong; the model learns them and is rejected.
    good = (data / "train-labels-idx1-ubyte.gz").read_bytes()
    poison(data, 0.9)
    state, decision = run(epochs=12)
    assert (state, champion()) == ("Rejected", 2)
    assert "Version 3 is rejected; version 2 stays the champion" in decision
    assert "**no**" in decision

    # Day 5: a damaged file fails the run before anything is trained, and changes nothing.
    (data / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"not IDX at all"))
    state, decision = run(epochs=12)
    assert (state, champion()) == ("Failed", 2)
    assert not decision

    # Day 6: new test images. The champion is judged on them, too: its own were others.
    (data / "train-labels-idx1-ubyte.gz").write_bytes(good)
    labels = idx.decode(data / "t10k-labels-idx1-ubyte.gz")[::-1]
    images = idx.decode(data / "t10k-images-idx3-ubyte.gz")[::-1]
    idx.write(data / "t10k-labels-idx1-ubyte.gz", labels)
    idx.write(data / "t10k-images-idx3-ubyte.gz", images)
    state, decision = run(epochs=12)
    assert (state, champion()) == ("Rejected", 2)  # as good as the champion, and not better
    assert "+0.0000 (0 gained, 0 lost)" in decision

    # Each day that was judged can be read afterwards, and automations heard of it.
    assert [move.version for move in Cache().models.moves()] == [1, 2]
    assert wait_for(lambda: event_names(prefect_server), seconds=60, what="the events") == [
        "digitflow.model.promoted",
        "digitflow.model.promoted",
        "digitflow.model.rejected",
        "digitflow.model.rejected",
    ]


def event_names(server: PrefectServer) -> list[str] | None:
    """Return the names of the gate's events once there are four; they arrive in the background."""
    asked = {"filter": {"event": {"prefix": ["digitflow.model."]}}}
    names = sorted(event["event"] for event in server.ask("/events/filter", asked)["events"])
    return names if len(names) >= 4 else None
