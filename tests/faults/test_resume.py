"""Training that was killed goes on from its last checkpoint, to the same last bit."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.flows.selection import Selection
from digitflow.storage.backends.atomic import remove
from digitflow.tasks.data.datasets.sources import from_directory
from tests import walk
from tests.faults.corrupting import empty, flip, truncate
from tests.faults.killing import kill_when
from tests.faults.logged_walk import Hold, LoggedWalk, epochs_trained
from tests.faults.processes import finish, from_function
from tests.faults.soundness import check_sound, outcomes

EPOCHS = 12


@dataclass(frozen=True)
class Training:
    """A walk whose training lasts long enough to be killed in a given epoch.

    Attributes
    ----------
    walk
        What is walked, up to the evaluation.
    expected
        What its records name if it is left alone.
    """

    walk: LoggedWalk
    expected: Any


NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "tutorial": {"hidden_sizes": "30"},
    # Shuffling, dropout and the optimiser's own state must come back as well.
    "layers": {
        "network": "layers",
        "hidden_sizes": "64,32",
        "batch_size": 4,
        "optimizer": "adam",
        "batch_normalization": True,
        "validation_size": 100,
    },
}


@pytest.fixture(scope="module", params=NETWORKS)
def training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp("training")
    dataset = from_directory(walk.write_dataset(folder / "data", training=1200))
    changes = {"training_sample": 1200, "epochs": EPOCHS, **NETWORKS[request.param]}
    plain = LoggedWalk(dataset, changes, Selection(until="evaluate"))
    plain(folder / "store", folder / "log")
    return Training(plain, outcomes(folder / "store"))


def killed_in_epoch(training: Training, folder: Path, epoch: int) -> Path:
    """Walk until training has reported an epoch, and kill it; return the store."""
    store, log = folder / "store", folder / "killed"
    attempt = from_function(replace(training.walk, hold=Hold(epoch)))(store, log)
    kill_when(attempt, log, lambda: epoch in epochs_trained(log))
    assert epochs_trained(log) == list(range(1, epoch + 1))
    assert len(list(store.glob("scratch/*/*.npz"))) == min(epoch, 2)
    return store


@pytest.mark.parametrize(
    "epoch", [4, *(pytest.param(epoch, marks=pytest.mark.slow) for epoch in (1, 9))]
)
def test_goes_on_from_the_last_checkpoint(training: Training, tmp_path: Path, epoch: int) -> None:
    store = killed_in_epoch(training, tmp_path, epoch)
    log = tmp_path / "resumed"
    finish(from_function(training.walk), store, log)
    assert epochs_trained(log) == list(range(epoch + 1, EPOCHS + 1))
    assert outcomes(store) == training.expected
    assert not list((store / "scratch").iterdir())
    check_sound(store)


@pytest.mark.parametrize(
    "damage",
    [flip, remove, *(pytest.param(each, marks=pytest.mark.slow) for each in (truncate, empty))],
)
def test_a_damaged_checkpoint_costs_one_epoch(
    training: Training, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    store = killed_in_epoch(training, tmp_path, 4)
    older, newest = sorted(store.glob("scratch/*/*.npz"))[-2:]
    damage(newest)
    log = tmp_path / "resumed"
    finish(from_function(training.walk), store, log)
    saved = int(older.stem.split("-")[1])
    assert epochs_trained(log) == list(range(saved + 1, EPOCHS + 1))
    assert outcomes(store) == training.expected
    assert not list((store / "scratch").iterdir())


def test_damaged_checkpoints_cost_all_epochs(training: Training, tmp_path: Path) -> None:
    store = killed_in_epoch(training, tmp_path, 4)
    for checkpoint in store.glob("scratch/*/*.npz"):
        flip(checkpoint)
    log = tmp_path / "resumed"
    finish(from_function(training.walk), store, log)
    assert epochs_trained(log) == list(range(1, EPOCHS + 1))
    assert outcomes(store) == training.expected


@pytest.mark.slow
def test_killed_in_every_epoch_of_one_training(training: Training, tmp_path: Path) -> None:
    """A training that never lives longer than an epoch or two still comes to its end."""
    rng = random.Random(3)
    store = tmp_path / "store"
    for life in range(EPOCHS):
        log = tmp_path / f"log-{life}"
        attempt = from_function(training.walk)(store, log)
        more = rng.randint(1, 2)
        kill_when(attempt, log, lambda log=log, more=more: len(epochs_trained(log)) >= more)
    finish(from_function(training.walk), store, tmp_path / "last")
    assert outcomes(store) == training.expected
