"""Recorded batches beside the champion's test set, from the store to what people read."""

import json
from pathlib import Path

import numpy as np
import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.monitoring.report import (
    drift_headline,
    drift_json,
    drift_markdown,
    drift_picture,
    report_drift,
    seen_in_test,
)
from digitflow.tasks.prediction.predictions import Prediction, record_batch
from tests.registered import register

NAMES = ("zero", "one", "two")
WEIGHTS = {"weights_1": np.eye(4), "weights_2": np.eye(4)[:, :3]}
# 600 test images, a third of each class, 0.8 sure of each.
OUTPUTS = np.tile(np.eye(3) * 0.7 + 0.1, (200, 1))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    return Store()


@pytest.fixture
def model(cache: Store) -> ModelVersion:
    registered = register(cache, weights=WEIGHTS, class_names=NAMES, outputs=OUTPUTS)
    cache.models.promote(registered.version, "test")
    return registered


def record(cache: Store, model: ModelVersion, *counts: int, sure: float = 0.9) -> None:
    predictions = [
        Prediction("private/name.png", name, sure, "one", 1 - sure)
        for name, count in zip(NAMES, counts, strict=True)
        for _ in range(count)
    ]
    blank = Prediction("blank.png", None, 0.0, None, 0.0)
    record_batch(cache, model, [*predictions, blank], 2, run="quiet-ant")


def test_what_is_recorded(cache: Store, model: ModelVersion):
    record(cache, model, 3, 0, 1)
    (batch,) = cache.batches.newest_first()
    assert batch.counts == (3, 0, 1)
    assert batch.confidence == pytest.approx(0.9)
    assert (batch.model, batch.class_names, batch.blank, batch.unreadable) == (1, NAMES, 1, 2)
    (file,) = map(cache.batches.path, cache.batches.entries())
    assert "private" not in file.read_text()  # neither pictures nor their names


def test_the_test_set(cache: Store, model: ModelVersion):
    seen = seen_in_test(cache, model)
    assert seen.counts == (200, 200, 200)
    assert seen.confidence == pytest.approx(0.8)


def test_nothing_recorded(cache: Store, model: ModelVersion):
    assert report_drift(cache, model) is None
    assert "no predictions are recorded" in drift_headline(None)
    record(cache, model, 0, 0, 0)  # nothing but a blank picture
    report = report_drift(cache, model)
    assert report is not None
    assert report.state == "too few"


def test_batches_each_and_together(cache: Store, model: ModelVersion):
    record(cache, model, 100, 100, 100)
    record(cache, model, 300, 0, 0, sure=0.6)
    report = report_drift(cache, model)
    assert report is not None
    assert [drift.state for _, drift in report.batches] == ["stable", "drifted"]  # oldest first
    assert report.now.counts == (400, 100, 100)
    assert report.now.confidence == pytest.approx(0.75)
    assert report.drift.state == "drifted"
    newest = report.batches[-1][1].psi
    assert drift_headline(report) == (
        "Drift: the pictures differ from those of the test set (mean confidence 0.600 against "
        f"0.800); PSI {newest:.3f} in the newest batch and {report.drift.psi:.3f} over the last 2, "
        "mean confidence 0.600 and 0.750, on the test set 0.800"
    )

    only = report_drift(cache, model, last=1)
    assert only is not None
    assert only.now.counts == (300, 0, 0)
    assert "over the last" not in drift_headline(only)


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        (((100, 100, 100), (300, 0, 0)), "drifted"),
        (((1000, 1000, 1000), (100, 100, 100), (60, 180, 60)), "drifted"),  # only the newest
        (((2000, 10, 10), (100, 100, 100)), "drifted"),  # not the newest, but all together
        (((1000, 1000, 1000), (3, 0, 0)), "stable"),  # the newest is too small to tell
        (((3, 0, 0),), "too few"),
    ],
)
def test_the_newest_or_all_together(
    cache: Store, model: ModelVersion, counts: tuple[tuple[int, ...], ...], state: str
):
    for each in counts:
        record(cache, model, *each)
    report = report_drift(cache, model)
    assert report is not None
    assert report.state == state


def test_batches_of_other_classes_do_not_count(cache: Store, model: ModelVersion):
    other = register(cache, weights={**WEIGHTS, "weights_1": 2 * np.eye(4)}, class_names=("a",) * 3)
    record_batch(cache, other, [Prediction("x", "a", 0.9, "a", 0.1)], 0, run="ant")
    assert report_drift(cache, model) is None


def test_markdown_and_picture(cache: Store, model: ModelVersion):
    record(cache, model, 100, 100, 100)
    report = report_drift(cache, model)
    assert report is not None
    text = drift_markdown(report, b"png")
    assert text.startswith("# Drift: the pictures are like those of the test set; PSI 0.000 in the")
    assert "| **all of them** | | 300 | 1 | | 0.900 | – | – | 0.000 | 0.096 | stable |" in text
    assert "| zero | 33.3 % | 33.3 % | 0.000 |" in text
    assert '<img width="900" alt="Predictions now and on the test set" src="data:' in text
    assert drift_picture(report, dpi=40).startswith(b"\x89PNG")
    assert json.loads(json.dumps(drift_json(report)))["batches"][0]["pictures"] == 300


class TestCommand:
    def test_nothing_recorded(
        self, cache: Store, model: ModelVersion, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["drift"]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert "no predictions recorded yet; record some: digitflow predict FILE… --record" in said
        assert main(["drift", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) is None

    def test_says_what_has_drifted(
        self, cache: Store, model: ModelVersion, capsys: pytest.CaptureFixture[str]
    ):
        record(cache, model, 100, 100, 100)
        assert main(["drift"]) == 0
        capsys.readouterr()
        record(cache, model, 300, 0, 0)
        assert main(["drift"]) == 3
        out = capsys.readouterr().out
        *tables, _ = out.splitlines()  # without a terminal the headline is one line
        assert all(len(line) <= 80 for line in tables)
        for line in ("test set", "all of them", "drifted", "part of PSI", "Drift: the pictures"):
            assert line in out
        assert main(["drift", "--json", "--last", "1"]) == 3
        assert json.loads(capsys.readouterr().out)["state"] == "drifted"

    def test_no_champion(self, cache: Store, capsys: pytest.CaptureFixture[str]):
        assert main(["drift"]) == 2
        assert "there is no champion" in capsys.readouterr().err
