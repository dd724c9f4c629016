"""What a person sees of a run, in a terminal and in a log file."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from digitflow.flows.cli.render import (
    Terminal,
    _as_line,
    _beside_bar,
    number,
    plain_console,
    print_fields,
    print_status,
    print_table,
    print_text,
    table,
    word,
)
from digitflow.tasks.engine.events import StageNoted, StageProgressed, StageStarted
from digitflow.tasks.engine.prefect_task import listed
from digitflow.tasks.nn.training.reports import EpochReport
from tests.terminal import pretend_a_terminal

NUMBERS = {
    "train_loss": 0.0803,
    "train_accuracy": 0.9752,
    "validation_loss": 0.0338,
    "validation_accuracy": 0.9908,
    "learning_rate": 0.00078,
    "seconds": 5.42,
    "images_per_second": 10_145.0,
}


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, highlight=False)


def written(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_an_epoch_is_one_line_of_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 100.0])
    monkeypatch.setattr("digitflow.flows.cli.render.time.monotonic", lambda: next(clock))
    log = console(terminal=False)
    terminal = Terminal(log)
    terminal.show(StageStarted("train", ()))
    terminal.show(StageProgressed("train", 22, 30, "epochs", NUMBERS))
    assert written(log) == (
        "  train: 22/30 epochs · train loss 0.0803 · train accuracy 0.9752 · "
        "validation loss 0.0338 · validation accuracy 0.9908 · learning rate 0.00078 · "
        "5.42 s · 10,145 images/s\n"
    )


@pytest.mark.parametrize(
    ("held_out", "says"),
    [("test", "99.1 % test"), ("validation", "99.1 % validation"), (None, "97.5 % train")],
)
def test_every_number_of_an_epoch_says_of_which_set_it_is(held_out: Any, says: str) -> None:
    report = EpochReport(
        21, 30, 0.08, 0.9752, held_out, 0.03, 0.9908, learning_rate=1.0, seconds=1.0,
        images_per_second=1.0,
    )  # fmt: skip
    numbers = report.numbers()
    known = {held_out, "train"} - {None}
    assert {name.partition("_")[0] for name in numbers} - {"learning", "seconds", "images"} == known
    beside = _beside_bar(StageProgressed("train", 22, 30, "epochs", numbers))
    assert beside == f"22/30 epochs · {says}"
    line = _as_line(StageProgressed("train", 22, 30, "epochs", numbers))
    artifact = listed(numbers)
    for text in (line, artifact):
        assert ("test accuracy" in text) == (held_out == "test")
        assert ("validation accuracy" in text) == (held_out == "validation")


def test_words_are_kept_whole_in_a_terminal() -> None:
    shown = console(terminal=True)
    Terminal(shown).say("a word and another, " * 8)
    lines = written(shown).splitlines()
    assert len(lines) > 1
    assert all(len(line) <= 80 for line in lines)
    assert all(not line.startswith("ord") for line in lines)


@pytest.mark.parametrize("quiet", [False, True])
def test_what_a_stage_has_to_say(quiet: bool) -> None:
    log = console(terminal=False)
    text = "http://mirror/: 429 Too Many Requests; asked again in 25 s"
    Terminal(log, quiet=quiet).show(StageNoted("download", text))
    expected = [] if quiet else ["note", "download", *text.split()]
    assert written(log).split() == expected


NAME = "extraordinarily-patient-caterpillar"
LONG = f"what {NAME} was made from: " + "a word " * 20 + "/a/path/that/is/" + "long/" * 20


def ways_to_print() -> None:
    shown = plain_console()
    rows = table(word("run"), "what differs", number("test accuracy"))
    rows.add_row(NAME, "dataset, preset and changes", "0.7840")
    print_table(shown, rows)
    print_fields(shown, {"made_by": LONG, "sound": True, "used_by": [], "settings": {"epochs": 5}})
    print_status(shown, Text("  ran  "), NAME, ["never run before"])
    print_text(shown, LONG)


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_terminal_of_any_width_breaks_no_identifier(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_a_terminal(monkeypatch, columns)
    ways_to_print()
    text = capsys.readouterr().out
    assert text.count(NAME) == 4
    assert text.count("long/" * 20) == 2
    assert "0.7840" in text
    too_wide = [line for line in map(str.rstrip, text.splitlines()) if len(line) > columns]
    if columns >= 40:  # where there is room for a name with its field's
        assert all("long/" in line or NAME in line for line in too_wide)


def test_a_table_too_wide_for_the_terminal_is_a_line_for_each_cell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_a_terminal(monkeypatch, 40)
    rows = table(word("run"), "changes", number("ran/cached"), number("test accuracy"))
    rows.add_row("amber-otter-and-others", "epochs 5, seed 7", "13/0", "0.7840")
    rows.add_row("blue-fox", "", "0/13", "")
    print_table(plain_console(), rows)
    assert capsys.readouterr().out.splitlines() == [
        "run            amber-otter-and-others",
        "changes        epochs 5, seed 7",
        "ran/cached     13/0",
        "test accuracy  0.7840",
        "",
        "run            blue-fox",
        "ran/cached     0/13",
    ]


def test_without_a_terminal_nothing_wraps(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ways_to_print()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4 + 1 + 1
    assert lines[2] == f"made by       {LONG}"
    assert lines[3:6] == ["sound         yes", "used by       –", "settings      epochs = 5"]
    assert lines[6].endswith(f"{NAME}  never run before")
