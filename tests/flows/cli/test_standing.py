"""`digitflow status` and `why`, in this process: no Prefect is started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from digitflow.flows.cli.app import main
from digitflow.storage.formats.artifacts import write_artifact
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.figures.mistakes import mistakes_figure
from digitflow.tasks.gate.decision import Verdict
from digitflow.tasks.gate.trend import BARS, with_trend
from tests.registered import put
from tests.terminal import pretend_a_terminal

LABELS = np.array([0, 1, 0, 1])


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return Store(tmp_path)


def trained(store: Store, number: int, answers: list[int], **changes: Any) -> ModelVersion:
    """Register a model that gives these answers to four test images."""
    with store.objects.temporary(".npy") as file:
        write_artifact("npy", file, LABELS)
        labels, _ = store.objects.add(file)
    return store.models.register(
        **{
            "run": f"run-{number}",
            "preset": "quick",
            "dataset": "Letters",
            "parameters": {"loss": "softmax", "epochs": 20},
            "metrics": {"test_accuracy": 0.5},
            "training": f"{number:064x}",
            "data": {"training_inputs": "a", "test_inputs": "b", "test_targets": labels},
            "class_names": ("0", "1"),
            "weights": put(store, {"weights_1": np.full((2, 2), number)}),
            "predictions": put(store, {"outputs": np.eye(2)[answers], "losses": np.zeros(4)}),
            **changes,
        }
    )


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main([*arguments]) == code
    found = capsys.readouterr()
    return " ".join((found.out + found.err).split())


def test_why(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    first = trained(store, 1, [0, 1, 1, 1])
    assert "the model letters has no champion yet" in said(capsys, "why", "v1", code=2)
    store.models.promote(1, "first")
    assert "it is the first" in said(capsys, "why", "run-1", code=2)
    other = trained(
        store, 2, [1, 1, 0, 1], parameters={"loss": "softmax", "epochs": 3},
        data={**first.data, "training_inputs": "c"},
    )  # fmt: skip
    numbers = {"headline": "Version 2 is rejected: recall of 0 falls", "flow_run": "x"}
    store.models.verdict("rejected", other, "r", "letters", by="run-2", details=numbers)
    for name in ("2", "v2", "run-2", other.id[:10]):
        text = said(capsys, "why", name)
        assert "version 2, rejected" in text
        assert "against 1, the champion" in text
        assert "epochs 20 → 3" in text
        assert "data training_inputs" in text
        assert "code not known: a record is gone" in text
        assert "gained 1 of 4 test images: 2 lost 1 of 4 test images: 0" in text
        assert "Version 2 is rejected: recall of 0 falls (run-2)" in text
    document = json.loads(said(capsys, "why", "2", "--json"))
    assert (document["gained"], document["lost"]) == ([2], [0])
    assert document["parameters"] == {"epochs": [20, 3]}

    # Of the champion it is what differs from the champion before.
    store.models.promote(2, "by hand")
    assert "against 1, the champion before" in said(capsys, "why", "2")
    trained(store, 3, [0, 1, 0, 1], data={**first.data, "test_inputs": "d"})
    assert "tested on different images" in said(capsys, "why", "3")


def test_status(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no model has been judged" in said(capsys, "status")
    trained(store, 1, [0, 1, 1, 1])
    other = trained(store, 2, [1, 1, 0, 1])
    store.models.promote(1, "first")
    for run in ("night-1", "night-2"):
        numbers = {"accuracy": 0.5, "champion": 1, "champion_accuracy": 0.75, "flow_run": run}
        store.models.verdict("rejected", other, "worse", "letters", by=run, details=numbers)
    store.models.hold("exam week", "letters")
    text = said(capsys, "status")
    assert "letters: version 1 (" in text
    assert "is the champion" in text
    assert text.index("night-2") < text.index("night-1")
    assert "rejected 2 0.5000 1 0.7500 night-1" in text
    assert "on hold since" in text
    assert "night-1" not in said(capsys, "status", "--last", "1")
    document = json.loads(said(capsys, "status", "--json"))
    assert document["models"]["letters"]["champion"] == 1
    assert document["models"]["letters"]["hold"]["reason"] == "exam week"
    assert [each["run"] for each in document["models"]["letters"]["verdicts"]] == [
        "night-2",
        "night-1",
    ]

    for folder in ("ledger", "ledger-copies"):
        (store.root / folder / "00000002.json").unlink()
    assert "digitflow models promote VERSION" in said(capsys, "status", code=1)


@pytest.fixture
def judged(store: Store) -> Store:
    """A champion of letters, three challengers after it, of which one is asked about."""
    for number in (1, 2, 3, 4):
        trained(store, number, [0, 1, 1, 1])
    store.models.promote(1, "first")

    def judge(kind: Any, version: int, accuracy: float, champion: int, theirs: float) -> None:
        numbers = {
            "headline": f"Version {version} is {kind}",
            "accuracy": accuracy,
            "champion": champion,
            "champion_accuracy": theirs,
            "flow_run": f"night-{version}",
        }
        chosen = store.models.load(version)
        if kind == "promoted":
            store.models.promote(version, "better", "letters", by="night", details=numbers)
        else:
            numbers |= {"until": "2999-06-01T00:00:00.000+00:00"} if kind == "held" else {}
            store.models.verdict(kind, chosen, "r", "letters", by="night", details=numbers)

    judge("rejected", 2, 0.5, 1, 0.75)
    judge("promoted", 3, 0.875, 1, 0.75)
    judge("held", 4, 1.0, 3, 0.875)
    return store


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_trend_is_read_in_any_terminal(
    judged: Store,
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretend_a_terminal(monkeypatch, columns)
    assert main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    fields = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
    assert fields["verdicts"][:3] == ["RPH", "R", "rejected,"]
    assert fields["challenger"] == ["▁▆█", "0.5000", "to", "1.0000"]
    assert fields["champion"] == ["▅▅▆", "0.7500", "to", "0.8750"]
    shown = next(line for line in lines if " held " in line).split()[2:]
    assert shown == ["held", "4", "1.0000", "3", "0.8750", "night"][: 2 if columns == 40 else 6]
    # Of many nights there are those that have room.
    for number in range(60):
        numbers = {"accuracy": 0.5, "champion_accuracy": 0.75, "flow_run": f"another-{number}"}
        version = judged.models.load(2)
        judged.models.verdict("rejected", version, "r", "letters", by="n", details=numbers)
    assert main(["status", "--last", "60"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


def test_the_trend_is_of_digits_where_a_terminal_knows_no_bars(
    judged: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Console, "encoding", "ascii")
    text = said(capsys, "status")
    assert "challenger 168 0.5000 to 1.0000" in text
    assert not {*BARS} & {*text}


def test_one_verdict_is_no_trend(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    version = trained(store, 1, [0, 1, 1, 1])
    store.models.verdict("rejected", version, "r", "letters", by="n", details={"flow_run": "x"})
    assert "challenger" not in said(capsys, "status")


def test_trend_and_open_questions_as_json_and_as_a_page(
    judged: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = json.loads(said(capsys, "status", "--json"))["models"]["letters"]
    assert found["trend"] == {
        "verdicts": ["rejected", "promoted", "held"],
        "challenger": [0.5, 0.875, 1.0],
        "champion": [0.75, 0.75, 0.875],
    }
    (question,) = found["questions"]
    assert (question["version"], question["until"][:4]) == (4, "2999")
    assert question["answer"][0] == "digitflow models approve 4"
    said(capsys, "status", "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<td><code>▁▆█</code></td><td>0.5000 to 1.0000</td>" in page
    verdict = with_trend(judged, Verdict("Held", "h", "# Held\n"), "letters")
    assert "| challenger | `▁▆█` | 0.5000 to 1.0000 |" in verdict.markdown
    assert "## The last 3 verdicts, oldest first" in verdict.markdown

    question = judged.models.state().question(judged.models.load(4))
    judged.models.answer(question, "rejected", "blurred")
    assert not json.loads(said(capsys, "status", "--json"))["models"]["letters"]["questions"]


def test_pages_show_what_was_gained_and_lost(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with store.objects.temporary(".npy") as file:
        write_artifact("npy", file, np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3))
        inputs, _ = store.objects.add(file)
    data = {**trained(store, 1, [0, 1, 1, 1]).data, "test_inputs": inputs}
    trained(store, 2, [0, 1, 1, 1], data=data)
    trained(store, 3, [1, 1, 0, 1], data=data, class_names=("<b>", "1"))
    store.models.promote(2, "first")
    store.models.promote(3, "<script>better</script>")
    drawn = []

    def remember(images: Any, labels: Any, predicted: Any, *args: Any, **named: Any) -> Any:
        drawn.append((named["dataset"], (labels != predicted).nonzero()[0].tolist()))
        return mistakes_figure(images, labels, predicted, *args, **named)

    monkeypatch.setattr("digitflow.tasks.figures.mistakes.mistakes_figure", remember)
    pages = []
    for command in ("status", "why 3"):
        said(capsys, *command.split(), "--html", str(tmp_path / "page.html"))
        pages.append((tmp_path / "page.html").read_text(encoding="utf-8"))
    expected = [("Gained: wrong by version 2 alone", [2]), ("Lost: wrong by version 3 alone", [0])]
    assert drawn == [*expected, *expected]
    for page in pages:
        assert page.count('src="data:image/png;base64,') == 2
        assert "default-src 'none'" in page
        assert "<script" not in page
        assert "<b>" not in page
    assert "version 3 (" in pages[0]
    assert "1 of 4 test images: 2" in pages[1]

    # Without the test images there is the page all the same.
    store.objects.path(inputs).unlink()
    said(capsys, "status", "--html", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "data:image" not in page
    assert "version 3 (" in page
