"""What is filled into a template stays text, in HTML and in Markdown, and misspelling fails."""

import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from digitflow.tasks.reporting import render as module
from digitflow.tasks.reporting.render import picture, render
from tests.patience import PATIENCE

HOSTILE = "<script>alert('x')</script> [a](javascript:b) ![c](d) **e** `f` | g ~~h~~ &amp; _i_\\"
TEMPLATES = Path(module.__file__).parent / "templates"


class Reader(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(module, "_TEMPLATES", tmp_path)
    module._environment.cache_clear()
    yield tmp_path
    module._environment.cache_clear()


def read_markdown(text: str) -> Reader:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    return Reader(reader.render(text))


@pytest.mark.parametrize("value", [HOSTILE, "a_b", "_a_", "x*y*z", "``", "\\|", "1 < 2 & 3 > 2"])
def test_a_value_is_text_in_a_table_of_markdown(templates: Path, value: str):
    (templates / "t.md").write_text("| a |\n|---|\n| {{ value }} |\n")
    plain = read_markdown(render("t.md", value="plain"))
    read = read_markdown(render("t.md", value=value))
    assert read.tags == plain.tags
    assert read.text == plain.text.replace("plain", value)


@given(st.text("<>&[]()!*_`|~\\ab \n", max_size=12))
def test_whatever_it_is(value: str):
    """In a sentence, after a word, so that nothing stands at the beginning of a line."""
    escaped = module.as_markdown(value)
    read = read_markdown(f"x {escaped} x")
    assert read.tags == ["p"]
    assert read.text.split() == ["x", *value.split(), "x"]


@given(st.text("`|ab ", min_size=1, max_size=8))
def test_code_is_text(value: str):
    read = read_markdown(f"x {module._code(value)} x")
    assert read.tags == ["p", "code"]
    assert read.text.split() == ["x", *value.split(), "x"]


def test_names_of_parameters_are_readable_as_they_are():
    assert module.as_markdown("hidden_sizes 0.1 (x-y)") == "hidden_sizes 0.1 (x-y)"


def test_lines_of_a_block_of_code_stay_in_it():
    block = module._indented("a\n```\n# b\n- c")
    read = read_markdown(f"x\n\n{block}\n")
    assert read.tags == ["p", "pre", "code"]


def test_a_picture_carries_its_bytes_and_its_title_is_text():
    tag = picture(b"png", 'a "quoted" > title\n\n# x', 5)
    assert tag == (
        '<img width="5" alt="a &#34;quoted&#34; &gt; title  # x" src="data:image/png;base64,cG5n">'
    )


@pytest.mark.parametrize("suffix", [".md", ".html"])
def test_a_name_that_nothing_was_given_for_is_an_error(templates: Path, suffix: str):
    (templates / f"t{suffix}").write_text("{{ misspelt }}")
    with pytest.raises(jinja2.UndefinedError, match="'misspelt' is undefined"):
        render(f"t{suffix}", spelt=1)


def test_no_template_asks_for_one_that_is_not_there():
    environment = module._environment(".html")
    for path in TEMPLATES.glob("*.*"):
        tree = environment.parse(path.read_text(encoding="utf-8"))
        for name in jinja2.meta.find_referenced_templates(tree):
            assert name is not None
            assert (TEMPLATES / name).is_file()


def test_importing_costs_no_jinja():
    script = (
        "import sys, digitflow.tasks.reporting.results, digitflow.tasks.monitoring.report\n"
        "print({'jinja2', 'markdown_it'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.strip() == "set()"
