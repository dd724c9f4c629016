"""What a person sees of a sweep, and what is refused before it begins."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from digitflow.flows.cli.app import main
from digitflow.flows.cli.sweep import SweepTerminal
from digitflow.tasks.engine.events import (
    PointDone,
    PointsStarted,
    StageFinished,
    StageProgressed,
    StageStarted,
    StageWaiting,
)
from digitflow.tasks.reporting.run_summary import RunSummary
from digitflow.tasks.sweeps.grid import plan_points
from digitflow.tasks.sweeps.ranking import Outcome
from digitflow.tasks.sweeps.report import SweepSummary, points_table, sweep_markdown
from tests.terminal import pretend_a_terminal

POINTS = plan_points("quick", {}, ["learning_rate=0.001,0.9", "hidden_sizes=64,128-64"])
LABELS = {f"train {point.label}": point.label for point in POINTS}
FIRST, SECOND, *_ = LABELS


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80, highlight=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    pretend_a_terminal(monkeypatch)
    return Console(file=io.StringIO(), highlight=False)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def outcome(number: int, accuracy: float | None) -> Outcome:
    if accuracy is None:
        return Outcome(POINTS[number], error="Training diverged in epoch 0.\nTry another.")
    scores = {"validation_accuracy": accuracy, "validation_loss": 0.25}
    return Outcome(POINTS[number], scores, 5, "ran", None, "key", 1.5)


def summary(folder: Path) -> SweepSummary:
    metrics = {"test_accuracy": 0.9712, "test_samples": 10_000, "test_loss": 0.1}
    run = RunSummary("zany-ant", "MNIST", "quick", {}, (), 12.3, metrics, folder)
    ranked = (outcome(1, 0.97), outcome(0, 0.96), outcome(2, None))
    names = ("learning_rate", "hidden_sizes")
    command = "digitflow run --preset quick --set learning_rate=0.001 hidden_sizes=128,64"
    return SweepSummary(run, names, "validation_accuracy", ranked, command, 15, 20)


def test_a_line_for_each_point_and_none_for_its_stage(console: Console) -> None:
    terminal = SweepTerminal(console)
    with terminal.showing():
        terminal.show(PointsStarted(LABELS, "validation_accuracy", 5))
        terminal.show(StageStarted(FIRST, ("never run",)))
        terminal.show(StageProgressed(SECOND, 2, 5, "epochs"))
        terminal.show(StageFinished(FIRST, False, 2.5, ("never run",)))
        terminal.show(PointDone(FIRST, False, 2.5, 5, 0.9712, None))
        terminal.show(PointDone(SECOND, True, 0.0, 5, 0.95, None))
        long = "Training diverged in epoch 3, batch 4: " + "and so on " * 20
        terminal.show(PointDone(list(LABELS)[2], False, 0.0, 0, None, long))
        terminal.show(StageFinished("evaluate", False, 0.1, ()))
    lines = said(console).splitlines()
    assert lines[0] == "training 4 points, until epoch 5"
    assert lines[1] == "  ran       2.5 s  learning_rate=0.001 hidden_sizes=64"
    assert lines[2].strip().startswith("97.12 % after 5 epochs · 1 of 4, ")
    assert lines[3].startswith("  cached    0.0 s  learning_rate=0.001 hidden_sizes=128-64")
    assert lines[5] == "  failed           learning_rate=0.9 hidden_sizes=64"
    assert lines[6].strip().startswith("Training diverged in epoch 3")
    assert lines[-1].split() == ["ran", "0.1", "s", "evaluate"]
    assert all(len(line) <= 80 for line in lines)


def test_a_point_that_waits_for_another_run_says_for_which(console: Console) -> None:
    terminal = SweepTerminal(console)
    with terminal.showing():
        terminal.show(PointsStarted(LABELS, "validation_accuracy", 5))
        holder = "run patient-owl (process 7 on here) is computing it"
        terminal.show(StageWaiting(FIRST, holder))
    assert f"waits learning_rate=0.001 hidden_sizes=64 {holder}" in " ".join(said(console).split())


def test_a_rung_says_how_many_go_on(console: Console) -> None:
    terminal = SweepTerminal(console)
    terminal.show(PointsStarted(LABELS, "validation_accuracy", 1))
    terminal.show(PointsStarted(dict(list(LABELS.items())[:2]), "validation_accuracy", 5))
    assert said(console).splitlines()[1] == "2 of them go on, until epoch 5"


def test_the_end(terminal: Console, tmp_path: Path) -> None:
    SweepTerminal(terminal).summarise_sweep(summary(tmp_path))
    text = said(terminal)
    lines = [line.rstrip() for line in text.splitlines()]
    assert [
        line for line in lines if len(line) > 80 and "/" not in line and "--set" not in line
    ] == []
    rows = [line.split() for line in text.splitlines()]
    assert ["1", "0.001", "128-64", "97.00", "%", "0.2500", "5", "ran"] in rows
    assert ["–", "0.9", "64", "–", "–", "0", "failed"] in rows
    assert "failed: learning_rate=0.9 hidden_sizes=64: Training diverged in epoch 0." in text
    assert "test accuracy 97.12 % of" in " ".join(text.split())
    assert "Trained: 15 of the 20 epochs of the grid, 12.3 s in all" in text
    assert f"\n  {summary(tmp_path).command}\n" in text


def test_quiet_says_nothing(console: Console, tmp_path: Path) -> None:
    terminal = SweepTerminal(console, quiet=True)
    terminal.show(PointsStarted(LABELS, "validation_accuracy", 5))
    terminal.show(PointDone(FIRST, False, 2.5, 5, 0.9712, None))
    terminal.summarise_sweep(summary(tmp_path))
    assert said(console) == ""


def test_the_report(tmp_path: Path) -> None:
    text = sweep_markdown(summary(tmp_path), b"png")
    assert text.startswith(
        "# MNIST · quick · learning_rate=0.001 hidden_sizes=128-64 is the best of"
    )
    assert "| rank | learning rate | hidden sizes | validation accuracy |" in text
    assert "| 1 | 0.001 | 128-64 | 97.00 % | 0.2500 | 5 | ran |  |" in text
    assert "test accuracy **97.12 %** of 10,000 images" in text
    assert [row["rank"] for row in points_table(summary(tmp_path))] == [1, 2, "–"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "expected at least one row, such as --grid learning_rate=0.05,0.1"),
        (["--grid", "learning_rat=1"], "did you mean 'learning_rate'?"),
        (["--grid", "dropout=0.1,2"], "dropout: should be less than 1"),
        (["--grid", "seed=1,2", "--preset", "tutorial"], "no validation set to rank points on"),
        (["--grid", "seed=1,2", "--set", "seed=3"], "seed is set to one value as well"),
        (["--grid", "epochs=1,2", "--early-stop", "successive-halving"], "omit epochs"),
        (["--grid", "seed=1,2", "--early-stop", "never"], "--early-stop"),
        (["--grid", "seed=1,2", "--metric", "test_accuracy"], "--metric"),
        (["--grid", "seed=1,2", "--workers", "0"], "workers: expected 1 to 1,024, found 0"),
        (["--grid", "seed=1,2", "--scheduler", "here"], "expected an address like tcp://10.0.0.1"),
        (["--grid", "seed=1,2", "--random", "9"], "the grid has 2 points, found 9"),
        (["--grid", "seed=1,2", "--dataset", "mnits"], "unknown dataset 'mnits'"),
        (["--grid", "seed=1,2", "--set", "training_sample=99999"], "training_sample"),
    ],
)
def test_is_refused_before_any_work(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(
        "digitflow.flows.cli.session.EmbeddedServer",
        lambda **_: pytest.fail("Prefect was started"),
    )
    assert main(["sweep", *arguments]) == 2
    shown = capsys.readouterr()
    assert says in " ".join((shown.out + shown.err).split())
    assert not (tmp_path / "store").exists()
