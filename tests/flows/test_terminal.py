"""What a person sees of a run, in a terminal and in a log file."""

import io

import pytest
from rich.console import Console

from flows.terminal import Terminal
from tasks.events import StageNoted, StageProgressed, StageStarted

NUMBERS = {
    "train_loss": 0.0803,
    "train_accuracy": 0.9752,
    "test_loss": 0.0338,
    "test_accuracy": 0.9908,
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
    monkeypatch.setattr("flows.terminal.time.monotonic", lambda: next(clock))
    log = console(terminal=False)
    terminal = Terminal(log)
    terminal.show(StageStarted("train", ()))
    terminal.show(StageProgressed("train", 22, 30, "epochs", NUMBERS))
    assert written(log) == (
        "  train: 22/30 epochs · loss 0.0803 · accuracy 0.9752 · held-out loss 0.0338 · "
        "held-out accuracy 0.9908 · learning rate 0.00078 · 5.42 s · 10,145 images/s\n"
    )


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
