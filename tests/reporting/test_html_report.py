"""The HTML report: complete, self-contained, and nothing in it that a name has smuggled in."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.formats.artifacts import PNG_SIGNATURE, Artifact
from digitflow.tasks.engine.call import StageResult
from digitflow.tasks.parameters import resolve
from digitflow.tasks.reporting.html_report import ReportContents, page
from digitflow.tasks.reporting.report import FIGURES
from digitflow.tasks.reporting.run_summary import RunSummary

PNG = PNG_SIGNATURE + b"\0\0\0\rIHDR" + (990).to_bytes(4) + bytes(8)
HOSTILE = "<script>alert('x')</script>\"'&<img src=x onerror=y>"
DIGEST = "ab" * 32


def summary(**changes: Any) -> RunSummary:
    parameters = resolve("quick", {"epochs": 2}).model_dump(mode="json")
    stage = StageResult(
        "train",
        "train",
        "12" * 32,
        {"model": Artifact(DIGEST, 12_345, "npz"), "history": Artifact("cd" * 32, 5, "csv")},
        False,
        ("parameter epochs 10 → 2", "code changed: tasks/nn/layers/base.py (ReLU)"),
        12.345,
    )
    given: dict[str, Any] = {
        "name": "quiet-ant",
        "dataset": "MNIST",
        "preset": "quick",
        "parameters": parameters,
        "stages": (stage, replace(stage, stage="plot", label="plot", cached=True, reasons=())),
        "seconds": 1.5,
        "metrics": {
            "test_accuracy": 0.9719,
            "test_loss": 0.098,
            "test_samples": 10_000,
            "errors": 281,
            "macro_f1": 0.9717,
            "per_class": [
                {
                    "class": "seven",
                    "precision": 0.97,
                    "recall": 0.96,
                    "f1": 0.965,
                    "support": 1028,
                    "training_images": 6265,
                }
            ],
        },
        "folder": Path("results"),
        "model": 5,
        **changes,
    }
    return RunSummary(**given)


def contents(**changes: Any) -> ReportContents:
    given: dict[str, Any] = {
        "figures": dict.fromkeys(FIGURES, PNG),
        "history": [{"epoch": 0, "train_loss": 0.4855, "note": "x"}],
        "code": {"train": "ef" * 32},
        "versions": {"numpy": "2.4.6", "prefect": None},
        **changes,
    }
    return ReportContents(**given)


class Reader(HTMLParser):
    """Collects tags, texts and addresses, and checks that every tag is closed in its turn."""

    VOID = frozenset({"meta", "img", "br", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def test_everything_is_there() -> None:
    read = Reader(page(summary(), contents()))
    for expected in (
        "MNIST · quick · test accuracy 97.2 %",
        "Run quiet-ant",
        "97.19 %",
        "281",
        "errors of 10,000",
        *FIGURES.values(),
        "seven",
        "6265",
        "0.4855",
        "parameter epochs 10 → 2\ncode changed: tasks/nn/layers/base.py (ReLU)",
        "12.35",
        "cached",
        "efefefefefef",
        "121212121212",
        "12,345",
        DIGEST,
        "2.4.6",
    ):
        assert expected in read.text, expected
    assert read.tags.count("img") == len(FIGURES)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    text = page(summary(), contents())
    read = Reader(text)
    assert all(address.startswith("data:image/png;base64,") for address in read.addresses)
    assert base64.b64decode(read.addresses[0].partition(",")[2]) == PNG
    assert not {"script", "link", "iframe", "object", "form"} & set(read.tags)
    assert "default-src 'none'" in text
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"name": HOSTILE},
        {"dataset": HOSTILE},
        {"preset": HOSTILE},
        {"parameters": {"epochs": HOSTILE, HOSTILE: 1}},
        {"metrics": {**summary().metrics, "per_class": [{"class": HOSTILE, "precision": 1.0,
            "recall": 1.0, "f1": 1.0, "support": 1, "training_images": 0}]}},
        {"stages": (replace(summary().stages[0], label=HOSTILE, reasons=(HOSTILE,),
            outputs={HOSTILE: Artifact(DIGEST, 1, "npz")}),)},
        {"decision": f"# {HOSTILE}\n\n| a | b |\n|---|---|\n| {HOSTILE} | x |\n\n{HOSTILE}\n"},
        {"decision": "[click](javascript:alert(1)) ![x](http://example.org/x.png)"},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_names_from_outside_are_text(changes: dict[str, Any]) -> None:
    quiet = Reader(page(summary(), contents()))
    read = Reader(page(summary(**changes), contents()))
    assert "script" not in read.tags
    assert read.handlers == []
    assert read.addresses == quiet.addresses
    assert read.tags.count("img") == quiet.tags.count("img")
    assert any(each in read.text for each in (HOSTILE, "[click](javascript:alert(1))"))


def test_history_and_versions_from_outside_are_text() -> None:
    hostile = contents(history=[{HOSTILE: HOSTILE}], versions={HOSTILE: HOSTILE})
    assert "script" not in Reader(page(summary(), hostile)).tags


def test_parameters_that_differ_from_the_preset_come_first() -> None:
    text = page(summary(), contents())
    other, usual = text.index("Changed from preset quick"), text.index("As in preset quick")
    assert other < text.index("<td>epochs</td>") < usual < text.index("<td>batch_size</td>")
    assert text.count("<td>epochs</td>") == 1
    assert '<td>epochs</td><td class="number">2</td><td class="number">10</td>' in text
    same = page(summary(parameters=resolve("quick", {}).model_dump(mode="json")), contents())
    assert "All as in preset quick." in same


def test_the_decision_of_a_retraining_is_at_the_top() -> None:
    decision = "# Version 5 is rejected\n\n| demanded | met |\n|---|---|\n| floor | **no** |\n"
    text = page(summary(decision=decision), contents())
    assert text.index("Version 5 is rejected") < text.index("Learning curves")
    assert "<td><strong>no</strong></td>" in text
    assert "decision" not in "".join(Reader(page(summary(), contents())).tags)


def test_a_run_that_stopped_early_has_a_report() -> None:
    text = page(summary(metrics={}, model=None, stages=()), ReportContents())
    Reader(text)
    assert "MNIST · quick" in text
    assert "test accuracy" not in text
    assert "Learning curves" not in text


def test_a_long_history_is_folded() -> None:
    rows = [{"epoch": epoch, "train_loss": 0.5} for epoch in range(41)]
    assert "<summary>41 epochs</summary>" in page(summary(), contents(history=rows))
    assert "epochs</summary>" not in page(summary(), contents(history=rows[:40]))


def test_numbers_stand_to_the_right_and_values_read_well() -> None:
    rows = [{"n": 1, "flag": True, "list": [1, 2], "none": None, "empty": []}]
    text = page(summary(metrics={}, stages=()), contents(history=rows, versions={}))
    text = text[text.index('id="history"') : text.index('id="stages"')]
    assert re.findall(r"<td( class=\"number\")?>([^<]*)</td>", text) == [
        (' class="number"', "1"),
        ("", "yes"),
        ("", "1, 2"),
        ("", "–"),
        ("", "–"),
    ]


def test_a_class_that_nothing_was_learnt_of_is_a_warning() -> None:
    metrics = dict(summary().metrics)
    assert "Warning" not in Reader(page(summary(), contents())).text
    metrics["per_class"] = [{**metrics["per_class"][0], "training_images": 0}]
    text = Reader(page(summary(metrics=metrics), contents())).text
    assert "1 class has test images but no training images: seven." in text
