"""What documents name is there: files, commands, options, links between pages."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from digitflow.flows.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Named to say that they are not there.
MISSING = {"flows/dask/"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def typed(document: Path) -> Iterator[str]:
    """Yield what a document has its readers type, each with its continuation lines."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?digitflow (.*)", line)
            if found:
                yield found[1]


@each_document
def test_files_that_are_named_are_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = re.findall(r"`((?:flows|tasks|storage|docs|benchmarks|tests)/[\w/]*(?:\.\w+)?)`", text)
    assert [each for each in named if not (ROOT / each).exists() and each not in MISSING] == []


@each_document
def test_links_lead_to_pages_and_headings(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|<)([^)\s]+)\)", document.read_text("utf-8")):
        place, _, heading = target.partition("#")
        page = (document.parent / place).resolve() if place else document
        assert page.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", each).lower().replace(" ", "-") for each in headings}
            assert heading in slugs, target


@each_document
def test_commands_and_options_that_are_typed_exist(document: Path) -> None:
    for line in typed(document):
        # Quotes may lie in the explanation behind it.
        words = shlex.split(line, comments=True) if line.count('"') % 2 == 0 else line.split()
        command, path = app, []
        while words and not words[0].startswith("-") and words[0] in list(command):
            path.append(words[0])
            command = command[words.pop(0)]
        assert path or words[:1] in ([], ["--help"], ["--version"]), line
        parents = [app, *(app[path[0]] for _ in path[1:])]
        with app.app_stack([*parents, command]):
            known = {
                name for each in command.assemble_argument_collection() for name in each.names
            } | {"--help"}
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known, line
