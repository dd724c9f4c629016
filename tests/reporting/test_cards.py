"""The report's model card and datasheet: every question answered, by a fact or by who knows it."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.dataset import Dataset, Datasheet
from digitflow.tasks.data.datasets.sources import DATASETS, from_directory
from digitflow.tasks.parameters import resolve
from digitflow.tasks.reporting.cards import Training
from digitflow.tasks.reporting.html_report import ReportContents, page
from digitflow.tasks.reporting.results import read_metrics, write_results
from digitflow.tasks.reporting.run_summary import RunSummary
from tests.reporting.test_html_report import HOSTILE, Reader, contents, summary
from tests.walk import TINY, walk, write_dataset

UNKNOWN = "a person writes it into the dataset's manifest, as "
CONFUSION = [["true", "0", "seven"], ["0", "5", "12"], ["seven", "3", "1016"]]
TRAINING = Training("first-ant", "2026-01-02T03:04:05.678+00:00", 67.8, {"numpy": "2.4.6"})
TWO = replace(DATASETS["mnist"], labels=(0, 7), class_names=("0", "seven"))
ROW = {"precision": 1.0, "f1": 1.0, "training_images": 600}
METRICS = {
    **summary().metrics,
    "test_samples": 1_000,
    "errors": 216,
    "test_accuracy": 0.784,
    "per_class": [
        {"class": "0", "recall": 0.5, "support": 10, **ROW},
        {"class": "seven", "recall": 0.9, "support": 990, **ROW},
    ],
    "mean_confidence": 0.8125,
    "calibration_error": 0.0325,
    "unsure": 20,
    "unsure_errors": 11,
}


def cards(source: Dataset = TWO, metrics: Any = METRICS, **changes: Any) -> str:
    shown = summary(source=source, named="mnist", metrics=metrics, **changes)
    text = page(shown, contents(confusion=CONFUSION, training=TRAINING))
    return Reader(text[text.index('<section id="model-card">') : text.index('id="stages"')]).text


def test_the_model_card_says_what_was_measured() -> None:
    text = cards()
    for expected in (
        "trained on MNIST by run quiet-ant, version 5",
        "2026-01-02T03:04:05.678+00:00, by run first-ant.",
        "With numpy 2.4.6.",
        "Telling the 2 classes of MNIST apart (0, seven)",
        # By hand: Wilson's interval of 784 in 1,000, of 5 in 10 and of 20 in 1,000.
        "78.40 % (75.74 to 80.84 %) of 1,000 test images",
        "0: recall 50.00 % (23.66 to 76.34 %) of 10",
        "0 taken for seven: 12\n",
        "seven taken for 0: 3\n",
        "Mean probability of the answers 81.25 %, at an accuracy of 78.40 %",
        "expected calibration error 3.25 % in 15 bins",
        "Unsure: 2.00 % (1.30 to 3.07 %) of 1,000 test images, 11 of them wrong.",
        "Training, when it was computed: 67.8 s.",
        "digitflow run --dataset mnist --preset quick --set epochs=2",
        "digitflow reproduce v5",
    ):
        assert expected in text, expected
    assert "cannot tell when it is unsure" not in text
    assert text.index("0 taken for seven") < text.index("seven taken for 0")


def test_the_datasheet_says_what_the_data_are() -> None:
    text = cards()
    for expected in (
        "60,000 training and 10,000 test images, grey, 28 x 28 pixels",
        "1,200 training images of MNIST, the first of 60,000.",
        "1,000 test images of MNIST, the first of 10,000.",
        "written by high-school students",
        "none stated by the authors",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "digitflow dataset check mnist looks for those",
        "9,912,422",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ):
        assert expected in text, expected
    assert "7\nseven\n600\n990" in re.sub(r"\s*\n\s*", "\n", text)


def test_what_only_people_know_names_its_place() -> None:
    text = cards(replace(TWO, licence="", citation="", datasheet=Datasheet()))
    places = re.findall(rf"{UNKNOWN}\n([\w.]+)", text)
    assert set(places) == {
        "licence",
        "citation",
        *(f"datasheet.{field.name}" for field in fields(Datasheet)),
    }
    told = Datasheet(**{field.name: f"About {field.name}." for field in fields(Datasheet)})
    text = cards(replace(TWO, licence="MIT", datasheet=told))
    assert UNKNOWN not in text
    assert all(f"About {field.name}." in text for field in fields(Datasheet))


def test_a_model_that_cannot_tell_says_so() -> None:
    known = {name: each for name, each in METRICS.items() if "unsure" not in name}
    assert "cannot tell when it is unsure" in cards(metrics=known)


def test_a_run_that_trained_nothing_has_no_model_card() -> None:
    text = page(summary(source=TWO, named="mnist", metrics={}, stages=()), ReportContents())
    assert 'id="model-card"' not in text
    assert "written by high-school students" in text


def test_what_a_manifest_says_is_text() -> None:
    told = Datasheet(**{field.name: HOSTILE for field in fields(Datasheet)})
    hostile = replace(TWO, title=HOSTILE, licence=HOSTILE, mirrors=(HOSTILE,), datasheet=told)
    text = page(summary(source=hostile, named=HOSTILE, metrics=METRICS), contents())
    read = Reader(text)
    assert "script" not in read.tags
    assert read.handlers == []
    assert HOSTILE in read.text


def test_a_mirrors_password_is_not_shown() -> None:
    secret = replace(TWO, mirrors=("https://me:hunter2@example.org/x/",))
    assert "hunter2" not in cards(secret)


@pytest.mark.parametrize("members", [1, 2])
def test_of_a_run(tmp_path: Path, members: int) -> None:
    """The digests, the counts and the training's record are those of the run itself."""
    store = Store(tmp_path / "store")
    dataset = from_directory(write_dataset(tmp_path / "data", training=150, test=20))
    # The tutorial's network leaves 110 images that it does not learn from; two that take all
    # leave a tenth, which is too few to tell what is unsure.
    calibrated = members == 1
    changes = {} if calibrated else {"members": members, "training_sample": 0}
    parameters = resolve("tutorial" if calibrated else "quick", {**TINY, **changes})
    done = walk(store, dataset, parameters, run="walking-owl")
    stages = tuple(done.results.values())
    shown = RunSummary(
        name="later-owl",
        dataset=dataset.title,
        preset="tutorial",
        parameters=parameters.model_dump(mode="json"),
        stages=stages,
        seconds=1.0,
        metrics=read_metrics(store, stages),
        folder=tmp_path / "results",
        source=dataset,
        named=str(tmp_path / "data"),
    )
    write_results(store, shown)
    text = Reader((tmp_path / "results" / "report.html").read_text()).text
    card = text[text.index("Model card") :]
    assert ", by run walking-owl." in card
    assert "numpy 2" in card
    assert "taken for" in card
    used = "40 training images of data, the first of 150." if calibrated else "150 training images"
    assert used in card
    assert all(file.sha256 in card for file in dataset.files)
    assert f"digitflow run --dataset {tmp_path / 'data'} " in card
    assert ("networks whose probabilities are averaged" in card) == (members > 1)
    assert ("Unsure: " in card) == ("calibration_error" in shown.metrics) == calibrated
