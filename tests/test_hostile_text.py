"""What others called their classes, files and runs is text wherever it is shown, and no more.

Every kind of output has one place that sees to it; each is fed the same texts.
"""

import csv
import io
import json
import logging
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from digitflow.flows.cli import render as terminal
from digitflow.flows.cli.app import main
from digitflow.storage.formats.artifacts import read_artifact, write_artifact
from digitflow.storage.formats.cells import guarded, unguarded
from digitflow.storage.history.runs import run_name
from digitflow.storage.visible import visible
from digitflow.tasks.data.datasets.dataset import DatasetError, check_file_name
from digitflow.tasks.data.datasets.manifest import check_name
from digitflow.tasks.data.download.source_check import CHANGED, FileAnswer, SourceAnswer
from digitflow.tasks.engine import step
from digitflow.tasks.engine.events import StageFinished, StageNoted, StageProgressed, StageStarted
from digitflow.tasks.gate.decision import failed_markdown
from digitflow.tasks.prediction.predictions import Prediction, predictions_csv
from digitflow.tasks.prediction.publish import predictions_markdown
from digitflow.tasks.reporting import artifacts
from digitflow.tasks.reporting.html_report import page
from digitflow.tasks.reporting.render import render
from digitflow.tasks.reporting.report import per_class_table, run_card, run_markdown
from tests.reporting.test_html_report import contents, summary

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07\x9b31m\x1b]52;c;cm0gLXJm\x1b\\",
    "safe\u202egpj.exe\u2066\u2069\ufeff\U000e0041",
    "a\rb\x08\x00\x7f\x85\u2028\u2029\x0b\x0c",
    "\udcff\udc1b[31m",
    "<script>alert(1)</script><img src=https://evil.example/x onerror=y>",
    "![x](https://evil.example/x.png) [y](javascript:alert(1)) <javascript:alert(1)>",
    "[x]: javascript:alert(1)\n[x]",
    "https://evil.example www.evil.example a@evil.example HTTP://evil.example",
    "a|b \\| c `|` \\\\| d\n|---|\n|e",
    "# a\n\n- b\n1. c\n> d\n```\n~~~\n<!--",
    "`a\\|b` ``x| &lt;b&gt; &#60;",
    "=HYPERLINK(\"https://evil.example\")", "+1+cmd|' /C calc'!A0", "'=1+1", "@SUM(A1)", "\t=1",
    "../../etc/passwd", "..", "-rf", "CON", "a/b\\c", "{{ 7 * 7 }} {% raw %} ${x} %s %n [red]x[/]",
)  # fmt: skip
ANY = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(
        st.one_of(st.sampled_from(HOSTILE), st.text(max_size=3), st.text("`|\\<>[]()!=+@' \n#*_")),
        max_size=4,
    ).map("".join),
)


def hidden(text: str, kept: str = "\n") -> list[str]:
    bad = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [
        each
        for each in text
        if unicodedata.category(each) in bad and each not in kept + "\u200c\u200d"
    ]


def fed(test: Callable[..., None]) -> Callable[..., None]:
    """Feed a test all of the texts above, and more."""
    for text in HOSTILE:
        test = example(text=text)(test)
    return settings(max_examples=25)(given(text=ANY)(test))


@fed
def test_what_is_visible_already_stays(text: str) -> None:
    shown = visible(text)
    assert not hidden(shown)
    assert visible(shown) == shown
    assert json.loads(visible(json.dumps(text, ensure_ascii=False))) == text


def printed(show: Callable[[Console], None], width: int | None) -> str:
    console = terminal.plain_console()
    console.file = io.StringIO()
    console.width = width or console.width
    show(console)
    return console.file.getvalue()


@fed
def test_a_terminal_is_told_nothing_but_text(text: str) -> None:
    table = terminal.table(terminal.word(text), terminal.number("n"), text)
    table.add_row(text, text, text)
    table.title = text
    shows: list[Callable[[Console], None]] = [
        lambda console: terminal.print_text(console, text, "red"),
        lambda console: terminal.print_table(console, table),
        lambda console: terminal.print_fields(
            console, {text: text, "b": [text], "c": {text: text}}
        ),
        lambda console: terminal.print_status(console, terminal.Text("x"), text, [text, text]),
        lambda console: console.print(text, soft_wrap=True),
        progress(text),
    ]
    for show in shows:
        for width in (None, 30):
            assert not hidden(printed(show, width))
    document = printed(lambda console: console.print_json(data={"a": [text]}), None)
    assert not hidden(document)
    assert json.loads(document) == {"a": [text]}


def progress(text: str) -> Callable[[Console], None]:
    def show(console: Console) -> None:
        shown = terminal.Terminal(console)
        shown.show(StageStarted(text, (text,)))
        shown.show(StageProgressed(text, 1, 2, text))
        shown.show_bar(text, 0.5, text)
        console.print(shown._progress)
        shown.show(StageNoted(text, text))
        shown.show(StageFinished(text, False, 1.0, (text, text)))
        shown.summarise(hostile_summary(text))

    return show


@pytest.mark.parametrize("text", HOSTILE)
def test_nor_is_it_by_an_error(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    error = ValueError(text)

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("digitflow.flows.cli.run.settle", fail)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    assert main(["run"]) == 1
    assert main(["show", text]) == 2
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the very same
        main(["run", "--verbose"])
    sys.excepthook(ValueError, raised.value, raised.tb)
    written = capsys.readouterr()
    assert not hidden(written.out + written.err)


def hostile_summary(text: str) -> Any:
    given = summary()
    (row,) = given.metrics["per_class"]
    row |= {"class": text, "training_images": 0}
    stage = replace(given.stages[0], label=text, stage="train", reasons=(text, text))
    return replace(
        given,
        name=text,
        dataset=text,
        preset=text,
        folder=Path(text.replace("\0", "")),
        stages=(stage,),
        parameters={text: text, "b": [text]},
        metrics={**given.metrics, "test_accuracy": 0},
    )


class Tags(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses += [value for name, value in attrs if name in ("src", "href")]


@fed
def test_the_html_report_has_the_tags_of_any_other(text: str) -> None:
    def document(name: str) -> str:
        given = replace(hostile_summary(name), decision="# Promoted", parameters={name: name})
        return page(given, contents(history=[{"epoch": 0, name: name}], versions={name: name}))

    written = document(text)
    assert not hidden(written)
    assert Tags(written).seen == Tags(document("x")).seen
    written.encode()


@fed
def test_a_decision_brings_neither_links_nor_pictures_into_the_html_report(text: str) -> None:
    tags = Tags(page(replace(summary(), decision=text), contents(figures={})))
    assert not {"a", "img", "script"} & {name for name, _ in tags.seen}


def markdown(text: str) -> Tags:
    # With HTML, as Prefect's UIs read it.
    return Tags(
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    )


def documents(text: str) -> dict[str, str]:
    file = FileAnswer(text, CHANGED, text, text)
    source = SourceAnswer((file,), {})
    error = ValueError("\n".join(text.splitlines()))
    return {
        "report": run_markdown(hostile_summary(text), {}),
        "source": render("source.md", source=source),
        "failed": failed_markdown(error, "the champion stays", source),
        "predictions": predictions(text),
        "description": markdown_of(text),
    }


def predictions(text: str) -> str:
    from types import SimpleNamespace as Made

    done: Any = Made(
        pictures=text,
        source=text,
        folder=text,
        batch=Made(unreadable=[(text, text)] * 2),
        model=Made(version=1, preset=text, dataset=text),
        predictions=(),
        seen=(),
    )
    return predictions_markdown(done, b"png")


def markdown_of(text: str) -> str:
    return artifacts.as_markdown(text)


@fed
def test_markdown_has_the_structure_of_any_other(text: str) -> None:
    shown, plain = documents(text), documents("x")
    for name in shown:
        assert not hidden(shown[name]), name
        if text.strip() and name not in ("failed",):  # which has as many lines as its error
            read, expected = markdown(shown[name]), markdown(plain[name])
            assert read.seen == expected.seen, (name, shown[name])
        assert all(each.startswith("data:") for each in markdown(shown[name]).addresses)


@fed
def test_cells_of_tables_and_descriptions_in_the_ui(text: str) -> None:
    left: list[tuple[Any, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("markdown", "table"):
            patch.setattr(
                artifacts,
                f"create_{kind}_artifact",
                lambda what, key, description: left.append((what, description)),
            )
        given = hostile_summary(text)
        artifacts.table_artifact(
            per_class_table(given.metrics), key="k", description=run_card(text, given)
        )
        artifacts.markdown_artifact("# ours", key="k", description=text)
    cells = [each for rows, _ in left[:1] for row in rows for pair in row.items() for each in pair]
    for shown in [*(each for each in cells if isinstance(each, str)), *(each for _, each in left)]:
        assert not hidden(shown)
        if shown.strip():
            assert markdown(shown).seen in ([("p", ())], [])


@fed
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    written = predictions_csv([Prediction(text, text, 0.5, text, 0.5)], [(text, text)])
    assert not hidden(written, kept="\n\t")
    written.encode()
    for row in csv.reader(io.StringIO(written)):
        for cell in row:
            assert cell == guarded(unguarded(cell))
            # One sign alone is none, whatever stands around it.
            assert len(cell.strip()) < 2 or cell.lstrip(" \n")[:1] not in ("=", "@", "\t"), cell


@fed
def test_a_table_in_the_store_holds_no_formula_and_reads_back(text: str) -> None:
    assert unguarded(guarded(text)) == text


@pytest.mark.parametrize(
    "text", ["=1+1|cmd", "'=x", "''@x", "@x", " +x()", "-x", "it's", "T-shirt/top"]
)
def test_classes_in_the_table_of_confusions(text: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"class": [text, "b"], text: [1, 0], "b": [0, 1]})
    write_artifact("csv", tmp_path / "file", table)
    for row in csv.reader((tmp_path / "file").read_text().splitlines()):
        assert not [cell for cell in row if cell[:1] in tuple("=+-@") or cell[:2] == " +"]
    pd.testing.assert_frame_equal(read_artifact("csv", tmp_path / "file"), table)


@fed
def test_a_name_leads_to_no_other_folder(text: str) -> None:
    assert Path("results", run_name(text)).resolve().parent == Path("results").resolve()
    for check in (check_name, check_file_name):
        try:
            name = check(text)
        except DatasetError as error:
            assert not hidden(str(error))  # noqa: PT017 - or it is a plain name
        else:
            assert Path("d", name).resolve().parent == Path("d").resolve()


@fed
def test_events(text: str) -> None:
    sent: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step, "emit_event", lambda **given: sent.update(given))
        step.announce("digitflow.x", text, text, {text: [text, {"a": text}], "n": 1})
    assert not hidden(json.dumps({**sent, "related": []}, ensure_ascii=False))
    assert sent["payload"]["n"] == 1


@fed
def test_logs(text: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    for name in ("digitflow.x", "prefect.x"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        try:
            logger.error("%s", text)
            try:
                raise ValueError(text)
            except ValueError:
                logger.exception("failed: %s", text)
        finally:
            logger.removeHandler(handler)
    assert stream.getvalue().count("Traceback") == 2
    assert not hidden(stream.getvalue(), kept="\n")
