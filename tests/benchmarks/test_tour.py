"""docs/tour.ipynb runs, shows what a full run has shown, and docs/tour.md is the same."""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.next_steps import DOCUMENT as NEXT_STEPS
from benchmarks.next_steps import MARK
from benchmarks.tour import NOTEBOOK, PAGE, PICTURES, page, read, shown, source
from digitflow.tasks.parameters import DEFAULT_PRESET, resolve
from tests.environment import CLEAN, OFFLINE
from tests.mnist import ROOT
from tests.servers.processes import python

TOUR = read(NOTEBOOK)
CODE = [cell for cell in TOUR["cells"] if cell["cell_type"] == "code"]
NUMBERS = {"IMAGES": 60_000, "EPOCHS": 20}
# What the tour does otherwise than docs/next-steps.md, and says so.
DIFFERENT = {"more samples": {"epochs": 1, "training_sample": 60_000}}
# What its grid chooses.
CHOSEN = {"learning rate and hidden size": ("learning_rate", "hidden_sizes")}


def texts(cell: dict[str, Any]) -> list[str]:
    return [content for kind, content in shown(cell) if kind == "text"]


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each step of the tour, and the settings that stand there."""
    named: dict[str, dict[str, Any]] = {}
    for node in (node for cell in CODE for node in ast.walk(ast.parse(source(cell)))):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict() as value):
                with suppress(NameError):  # of one that depends on what is tried
                    named[name] = eval(ast.unparse(value), {}, NUMBERS)
            case ast.Call(func=ast.Name(id="step"), args=[ast.Constant(value=name)]):
                settings: dict[str, Any] = {}
                for each in node.keywords:
                    if each.arg is None:
                        settings |= named.get(ast.unparse(each.value), {})
                    else:
                        settings[each.arg] = eval(ast.unparse(each.value), {}, NUMBERS)
                yield name, settings


def test_the_page_is_the_notebook() -> None:
    text, pictures = page(TOUR)
    assert PAGE.read_text(encoding="utf-8") == text
    assert {path.name: path.read_bytes() for path in PICTURES.iterdir()} == pictures


def test_only_numpy_matplotlib_and_digitflow_are_imported() -> None:
    found = set()
    for cell in CODE:
        for node in ast.walk(ast.parse(source(cell))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).partition(".")[0])
    assert found == {"numpy", "matplotlib", "digitflow"}


def test_it_is_light_and_names_no_place_of_the_machine_that_ran_it() -> None:
    assert NOTEBOOK.stat().st_size < 1_500_000
    assert max(path.stat().st_size for path in PICTURES.iterdir()) < 100_000
    everything = "".join(text for cell in CODE for text in texts(cell))
    assert re.findall(r"(?:^|[\s'\"(=])/\w[\w.-]*/|[A-Z]:\\|ipykernel_|Traceback", everything) == []


def test_it_reaches_what_it_promises() -> None:
    everything = [line for cell in CODE for text in texts(cell) for line in text.splitlines()]
    assert "78.4% of the test images" in everything
    assert "99.5% of the test images" in everything
    assert "layer_1 >= 0, as published: true of 100%" in everything
    assert all(cell["execution_count"] for cell in CODE)


def test_its_steps_are_those_of_next_steps() -> None:
    made = NEXT_STEPS.read_text(encoding="utf-8").partition(MARK)[2]
    commands = re.findall(r"^digitflow run --set (.*)$", made, re.MULTILINE)
    for command, (name, settings) in zip(commands, steps(), strict=True):
        expected = dict(word.split("=") for word in command.split()) | DIFFERENT.get(name, {})
        for each in CHOSEN.get(name, ()):
            del expected[each]
        found = resolve(DEFAULT_PRESET, {"test_sample": 0, **settings})
        assert found == resolve(DEFAULT_PRESET, expected), name


def masked(cell: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a cell shows, without its numbers and without what a picture shows."""
    return [
        (kind, "" if kind == "png" else re.sub(r"\d[\d.,]*", "#", content))
        for kind, content in shown(cell)
    ]


@pytest.mark.data
def test_it_runs_and_shows_what_is_stored(tmp_path: Path, mnist_directory: Path) -> None:
    """Every cell, with little training: what it prints is the same, but for the numbers."""
    pytest.importorskip("nbclient", reason="nbclient is not installed: make install")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: make install")
    environment = {
        **CLEAN,
        **OFFLINE,
        "HOME": str(tmp_path),
        "DIGITFLOW_MIRROR": str(mnist_directory),
    }
    small = tmp_path / "small.ipynb"
    script = ROOT / "benchmarks" / "tour.py"
    done = python(script, "--smoke", small, folder=ROOT, environment=environment)
    assert done.returncode == 0, done.stderr
    ran = [cell for cell in read(small)["cells"] if cell["cell_type"] == "code"]
    assert [source(cell) for cell in ran] == [source(cell) for cell in CODE]
    for cell, stored in zip(ran, CODE, strict=True):
        assert masked(cell) == masked(stored), source(cell)
