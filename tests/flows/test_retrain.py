"""The retraining flow on a real Prefect server: promoted, unchanged, rejected, failed."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from digitflow.flows.retrain import retrain
from digitflow.storage.errors import LedgerError
from digitflow.storage.history.ledger import Ledger
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import DATASETS, from_directory
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.data.sample import write_sample
from digitflow.tasks.gate.ruling import Ruling, rule
from digitflow.tasks.gate.source import ask_source
from tests.faults.http_mirror import serving
from tests.mnist import has_mnist, mnist_folder
from tests.patience import wait_for
from tests.servers.prefect_server import PrefectServer, own_name
from tests.walk import write_dataset

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

SETTINGS = {
    "preset": "quick",
    "hidden_sizes": [24],
    "epochs": 12,
    "validation_size": 0,
    "batch_size": 32,
    # With it so small a network learns from 3,500 images nearly what it does from 5,000.
    "standardization": False,
    "dpi": 40,
    "floor": 0.2,
    "max_class_drop": 0.05,  # 5 of a class's 100 images
}
TRAINING, TEST = 5_000, 1_000


@dataclass(frozen=True)
class Night:
    """What an operator sees of a run in the morning."""

    state: str
    colour: str
    name: str
    tags: list[str]
    decision: str


Retrain = Callable[..., Night]


@pytest.fixture
def run(prefect_server: PrefectServer) -> Retrain:
    """Retrain, and return what the server shows of it."""

    def run(dataset: str | Path, **parameters: Any) -> Night:
        given = {"dataset": str(dataset), **SETTINGS, **parameters}
        state = retrain(**given, return_state=True)
        shown = prefect_server.ask(f"/flow_runs/{state.state_details.flow_run_id}")
        asked = {"artifacts": {"flow_run_id": {"any_": [shown["id"]]}}}
        artifacts = {each["key"]: each for each in prefect_server.ask("/artifacts/filter", asked)}
        decision = artifacts["digitflow-decision"]
        return Night(
            shown["state_name"],
            {"COMPLETED": "green", "FAILED": "red"}[shown["state_type"]],
            shown["name"],
            shown["tags"],
            decision["data"],
        )

    return run


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[Any], ...]:
    """Training images and labels, test images and labels: MNIST's, or drawn where it is missing."""
    folder = tmp_path_factory.mktemp("digits")
    if has_mnist():
        folder = mnist_folder()
    else:
        write_sample(folder, training=TRAINING, test=TEST, seed=1)
    arrays = [idx.decode(folder / file.name) for file in DATASETS["mnist"].files]
    return tuple(each[:TRAINING] for each in arrays[:2]) + tuple(each[:TEST] for each in arrays[2:])


def champion() -> int | None:
    model = Store().models.champion()
    return None if model is None else model.version


def accuracy_of_champion() -> float:
    """The champion's accuracy on the test set, which is the same all week."""
    model = Store().models.champion()
    assert model is not None
    return model.metrics["test_accuracy"]


def mislabelled(labels: NDArray[Any], share: float) -> NDArray[Any]:
    """Return labels of which a share is wrong, each by a number of its own."""
    rng = np.random.default_rng(1)
    wrong = rng.choice(len(labels), int(share * len(labels)), replace=False)
    labels = labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, len(wrong))) % 10
    return labels


def test_a_week(
    run: Retrain, digits: tuple[NDArray[Any], ...], tmp_path: Path, prefect_server: PrefectServer
) -> None:
    images, labels, test_images, test_labels = digits
    data = tmp_path / "digits"
    data.mkdir()
    idx.write(data / "t10k-images-idx3-ubyte.gz", test_images)
    idx.write(data / "t10k-labels-idx1-ubyte.gz", test_labels)
    week: list[tuple[Night, float]] = []

    def night(count: int, labels: NDArray[Any] = labels) -> Night:
        """The data of a day comes in, and is trained on."""
        idx.write(data / "train-images-idx3-ubyte.gz", images[:count])
        idx.write(data / "train-labels-idx1-ubyte.gz", labels[:count])
        return retrained()

    def retrained() -> Night:
        week.append((run(data), accuracy_of_champion()))
        return week[-1][0]

    # Monday: the first model needs the floor only.
    monday = night(600)
    assert (monday.state, monday.colour, champion()) == ("Promoted", "green", 1)
    assert "# Version 1 is the champion" in monday.decision
    assert "no champion yet" in monday.decision
    assert "The source was asked for the first time." in monday.decision
    accuracy = f"{week[0][1] * 100:.1f} %"
    assert monday.name.endswith(f" · digits · quick · {accuracy}")
    assert set(monday.tags) == {"digits", "quick", "promoted"}

    # Tuesday: samples were appended, and the new model is better.
    tuesday = night(3_500)
    assert (tuesday.state, tuesday.colour, champion()) == ("Promoted", "green", 2)
    assert "# Version 2 is the champion, in place of version 1" in tuesday.decision
    assert "McNemar's exact test: p = " in tuesday.decision
    assert "| recall of 7 |" in tuesday.decision
    changed = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz"
    assert f"Yes: {changed}." in tuesday.decision

    # Wednesday: nothing has changed, which is a success that says so.
    wednesday = retrained()
    assert (wednesday.state, wednesday.colour, champion()) == ("Unchanged", "green", 2)
    assert "# Nothing to do: version 2" in wednesday.decision
    assert wednesday.decision.count(f"{data}: same size and time") == 4

    # Thursday: 30 % of the labels are wrong.
    thursday = night(3_500, mislabelled(labels, 0.3))
    assert (thursday.state, thursday.colour, champion()) == ("Held", "red", 2)
    assert thursday.decision.startswith("# Held: training data changed; version 3 waits for a ")
    assert "of 3,500 training images of the champion's data are labelled" in thursday.decision
    assert "| **no** |" in thursday.decision
    assert "| verdicts | `PPH` | P promoted, H held |" in thursday.decision
    assert "digitflow models promote 3" in thursday.decision
    assert "held" in thursday.tags

    # Friday: a damaged file fails the run before anything is trained.
    (data / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"not IDX at all"))
    friday = retrained()
    assert (friday.state, friday.colour, champion()) == ("Failed", "red", 2)
    assert "# No decision: the run failed" in friday.decision
    assert "Version 2 stays the champion." in friday.decision
    assert "train-labels-idx1-ubyte.gz" in friday.decision.partition("## Has the data")[0]

    # Saturday: all of the data, and all of it right.
    saturday = night(TRAINING)
    assert (saturday.state, saturday.colour, champion()) == ("Promoted", "green", 4)

    # Sunday: most of the data has been lost on its way, and what is left is valid.
    sunday = night(500)
    assert (sunday.state, sunday.colour, champion()) == ("Rejected", "red", 4)

    # The champion never got worse, and each decision can be read afterwards.
    accuracies = [accuracy for _, accuracy in week]
    assert accuracies == sorted(accuracies)
    assert [move.version for move in Store().models.moves()] == [1, 2, 4]
    rejected = [Store().models.load(version).metrics["test_accuracy"] for version in (3, 5)]
    assert max(rejected) < min(accuracies[1:])
    asked = {"artifacts": {"key": {"any_": ["digitflow-decision"]}}, "sort": "CREATED_DESC"}
    kept = [each["data"] for each in prefect_server.ask("/artifacts/filter", asked)]
    assert kept[:7] == [night.decision for night, _ in reversed(week)]
    page = Path("results", own_name({"name": thursday.name}), "report.html").read_text()
    assert "<h1>Held: training data changed; version 3 waits for a person, version 2" in page
    page = Path("results", own_name({"name": wednesday.name}), "report.html").read_text()
    assert "<h1>Nothing to do: version 2" in page
    check_events(prefect_server, week)


def check_events(server: PrefectServer, week: list[tuple[Night, float]]) -> None:
    """Automations heard of each decision, with its numbers, and of each change of the data."""
    runs = {own_name({"name": night.name}) for night, _ in week}

    def of_this_week() -> dict[str, list[dict[str, Any]]] | None:
        asked = {"filter": {"event": {"prefix": ["digitflow."]}}, "limit": 50}
        found: dict[str, list[dict[str, Any]]] = {}
        for event in server.ask("/events/filter", asked)["events"]:
            found.setdefault(event["event"], []).append(event)
        verdicts = ("rejected", "held", "promoted")
        models = [each for word in verdicts for each in found.get(f"digitflow.model.{word}", [])]
        ours = [event for event in models if event["payload"].get("run") in runs]
        return found if len(ours) == 5 else None

    found = wait_for(of_this_week, "the events of five decisions")
    poisoned = next(
        event["payload"]
        for event in found["digitflow.model.held"]
        if event["payload"]["version"] == 3 and event["payload"].get("run") in runs
    )
    assert poisoned["champion"] == 2
    assert poisoned["accuracy"] < poisoned["champion_accuracy"]
    assert poisoned["lost"] - poisoned["gained"] == round(
        (poisoned["champion_accuracy"] - poisoned["accuracy"]) * poisoned["test_images"]
    )
    assert 0 < poisoned["p_value"] < 1
    assert any(each.startswith("more accurate than the champion") for each in poisoned["unmet"])
    assert "labelled otherwise" in poisoned["headline"]
    assert len(poisoned["doubts"]) == 1
    assert poisoned["standing"]["version"] == 2
    assert set(poisoned["recalls"]) == set("0123456789")
    # Others on this server, as `prefect event emit`, say less in theirs.
    changes = [event["payload"].get("dataset") for event in found["digitflow.dataset.changed"]]
    assert changes.count("digits") == 4  # Tuesday, Thursday, Saturday, Sunday


def test_new_test_images_are_shown_to_the_champion_too(run: Retrain, tmp_path: Path) -> None:
    """Which is trained once more, to the same bytes, if the store has lost it."""
    data = write_dataset(tmp_path / "days", training=300, test=200)
    assert run(data).state == "Promoted"
    store = Store()
    lost = store.models.load(1).artifacts
    for each in lost:
        store.objects.path(each.sha256).unlink()
    for name in ("t10k-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"):
        idx.write(data / name, idx.decode(data / name)[::-1])
    second = run(data)
    assert (second.state, champion()) == ("Rejected", 1)  # as good as the champion, not better
    assert "+0.0000 ± 0.0000 (0 gained, 0 lost)" in second.decision
    assert all(store.objects.holds(each.sha256) for each in lost)


def test_a_ledger_that_stops_answering_leaves_a_decision_published(
    run: Retrain, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object, **__: object) -> None:
        message = "the ledger does not answer"
        raise LedgerError(message)

    def ruled_last(*given: Any, **named: Any) -> Ruling:
        ruling = rule(*given, **named)
        patch.setattr(Ledger, "read", refused)
        return ruling

    data = write_dataset(tmp_path / "days", training=300, test=200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("digitflow.tasks.gate.decide.rule", ruled_last)
        night = run(data)
    assert (night.state, champion()) == ("Promoted", 1)
    assert night.decision.startswith("# Version 1 is the champion")
    assert "does not show the last verdicts: the ledger does not answer" in caplog.text
    assert "Events are left for the next time: the ledger does not answer" in caplog.text


def test_a_source_that_cannot_be_asked_is_no_unchanged(
    run: Retrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask_source, "retry_delay_seconds", [0, 0])
    data = write_dataset(tmp_path / "served", training=300, test=200)
    with serving(data) as mirror:
        published = replace(from_directory(data), name="letters", mirrors=(mirror.url,))
        monkeypatch.setattr(
            "digitflow.tasks.data.datasets.sources.DATASETS",
            MappingProxyType({"letters": published}),
        )
        assert run("letters").state == "Promoted"
        assert set(mirror.sent.values()) == {2}  # read once to be compared, and once to be kept

        # Asked with ETags, it sends nothing.
        unchanged = run("letters")
        assert unchanged.state == "Unchanged"
        assert unchanged.decision.count(f"{mirror.url}: 304 Not Modified") == 4
        assert set(mirror.sent.values()) == {2}

        # Other bytes under the same name are not the dataset that was published.
        labels = data / "train-labels-idx1-ubyte.gz"
        labels.write_bytes(labels.read_bytes()[::-1])
        other = run("letters")
        assert (other.state, other.colour, champion()) == ("Unconfirmed", "red", 1)
        assert "other bytes than the dataset's" in other.decision
    silent = run("letters")
    assert (silent.state, silent.colour, champion()) == ("Unconfirmed", "red", 1)
    assert silent.decision.count(f"not known | {mirror.url}: connection refused") == 4
    assert "version 1 stays the champion" in silent.decision


def test_a_champion_of_other_classes_or_images_is_not_compared(
    run: Retrain, tmp_path: Path
) -> None:
    ten = write_dataset(tmp_path / "ten", training=300, test=200)
    assert run(ten, model="kiosk").state == "Promoted"
    data = write_dataset(tmp_path / "five", training=300, test=200)
    for name in ("train-labels-idx1-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        idx.write(data / name, idx.decode(data / name) // 2)
    other = run(data, model="kiosk")
    assert (other.state, champion()) == ("Failed", 1)
    assert "expected the classes of the champion, version 1 (0, 1, 2, 3, 4" in other.decision
    assert "found 0, 1, 2, 3, 4: " in other.decision

    wide = write_dataset(tmp_path / "wide", shape=(5, 12), training=300, test=200)
    other = run(wide, model="kiosk")
    assert (other.state, champion()) == ("Failed", 1)
    said = "images of the champion's size, version 1 (9 x 7 pixels), found 5 x 12 pixels: give"
    assert said in other.decision


def test_the_built_in_digits_cannot_change(run: Retrain) -> None:
    decision = run("sample", training_sample=500, test_sample=200, floor=0.0).decision
    assert "No: it is drawn from a fixed seed." in decision
