"""Several runs at once: all succeed, nothing is done twice, and whoever waits says so."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from digitflow.flows.cli.render import Terminal
from digitflow.flows.selection import Selection
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.events import StageWaiting
from tests.faults.conftest import Undisturbed
from tests.faults.http_mirror import serving
from tests.faults.logged_walk import Hold, LoggedWalk, epochs_trained, events
from tests.faults.processes import finish, from_function
from tests.faults.soundness import check_free, check_sound, outcomes
from tests.patience import wait_for
from tests.walk import LABELS

AT_ONCE = 4
EPOCHS = 25


def labels(log: Path, kind: str) -> Counter[str]:
    return Counter(each["label"] for each in events(log, kind))


def somebody_waits(log: Path) -> bool:
    return bool(events(log, "StageWaiting"))


def test_on_an_empty_store(undisturbed: Undisturbed, dataset: Dataset, tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    with serving(Path(dataset.mirrors[0]), until=lambda: somebody_waits(log)) as mirror:
        job = from_function(
            replace(undisturbed.walk, dataset=replace(dataset, mirrors=(mirror.url,)))
        )
        attempts = [job(store, log) for _ in range(AT_ONCE)]
        codes = [attempt.wait() for attempt in attempts]
    assert codes == [0] * AT_ONCE, "\n".join(attempt.output() for attempt in attempts)
    assert mirror.asked == {file.name: 1 for file in dataset.files}
    # Whoever came first computed, the others waited or came later, and were served.
    assert labels(log, "StageStarted") == dict.fromkeys(LABELS, 1)
    finished = events(log, "StageFinished")
    assert len(finished) == AT_ONCE * len(LABELS)
    assert sum(not each["cached"] for each in finished) == len(LABELS)
    assert outcomes(store) == undisturbed.outcomes
    check_sound(store)
    check_free(store)


def test_with_different_parameters(
    undisturbed: Undisturbed, dataset: Dataset, tmp_path: Path
) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    with serving(Path(dataset.mirrors[0]), until=lambda: somebody_waits(log)) as mirror:
        walks = [
            LoggedWalk(
                replace(dataset, mirrors=(mirror.url,)),
                {"learning_rate": rate},
                Selection(until="evaluate"),
                name=f"rate-{number}",
            )
            for number, rate in enumerate((0.001, 0.002, 0.005, 0.01))
        ]
        attempts = [from_function(each)(store, log) for each in walks]
        codes = [attempt.wait() for attempt in attempts]
    assert codes == [0] * AT_ONCE, "\n".join(attempt.output() for attempt in attempts)
    assert mirror.asked == {file.name: 1 for file in dataset.files}
    started = labels(log, "StageStarted")
    trained = ("train", "calibrate", "evaluate")
    assert started == {label: AT_ONCE if label in trained else 1 for label in LABELS[:-1]}
    alone = tmp_path / "alone"
    for each in walks:
        replace(each, dataset=dataset)(alone, tmp_path / "log-alone")
    assert outcomes(store) == outcomes(alone)
    check_sound(store)


@pytest.fixture
def training(dataset: Dataset) -> LoggedWalk:
    """A walk that ends with a training of many epochs."""
    return LoggedWalk(dataset, {"epochs": EPOCHS}, Selection(until="train"))


def test_a_killed_holder_frees_those_who_wait(training: LoggedWalk, tmp_path: Path) -> None:
    store = tmp_path / "store"
    holder_log, waiter_log = tmp_path / "holder", tmp_path / "waiter"
    holder = from_function(replace(training, hold=Hold(5)))(store, holder_log)
    wait_for(lambda: 5 in epochs_trained(holder_log), "the fifth epoch")
    waiter = from_function(training)(store, waiter_log)
    wait_for(lambda: somebody_waits(waiter_log), "the one who waits")
    assert holder.running
    holder.kill()
    assert waiter.wait() == 0, waiter.output()
    assert labels(waiter_log, "StageWaiting") == {"train": 1}
    (wait,) = events(waiter_log, "StageWaiting")
    assert wait["reason"].startswith("run walk (process ")
    # The one who waited takes over, and goes on from the last checkpoint.
    assert epochs_trained(waiter_log) == list(range(6, EPOCHS + 1))
    finish(from_function(training), tmp_path / "alone", tmp_path / "log-alone")
    assert outcomes(store) == outcomes(tmp_path / "alone")
    check_free(store)
    check_sound(store)


def test_training_of_one_key_runs_once(training: LoggedWalk, tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    held = replace(training, hold=Hold(1, waiting=AT_ONCE - 1))
    attempts = [from_function(held)(store, log) for _ in range(AT_ONCE)]
    assert [attempt.wait() for attempt in attempts] == [0] * AT_ONCE
    assert labels(log, "StageStarted")["train"] == 1
    assert labels(log, "StageWaiting")["train"] == AT_ONCE - 1
    trained = [
        each["process"] for each in events(log, "StageProgressed") if each["unit"] == "epochs"
    ]
    assert len(set(trained)) == 1
    assert len(trained) == EPOCHS


def test_who_waits_says_so() -> None:
    said = io.StringIO()
    holder = "run patient-owl (process 7 on here) is computing it"
    Terminal(Console(file=said, width=80)).show(StageWaiting("train", holder))
    assert " ".join(said.getvalue().split()) == f"waits train {holder}"
