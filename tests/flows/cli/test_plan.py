"""`digitflow plan`: the exit code, why, and as JSON."""

import sys
from pathlib import Path

import pytest

from digitflow.storage.store import Store
from tests.answers import SET_TINY, Answer, Cli, no_line_is_too_wide
from tests.walk import LABELS, Walk


def plan(cli: Cli, directory: Path, *arguments: str) -> Answer:
    return cli("plan", "--dataset", str(directory), *SET_TINY, *arguments)


def test_exit_code_tells_whether_anything_would_run(cli: Cli, cache: Store, tiny_directory: Path):
    answer = plan(cli, tiny_directory)
    assert answer.code == 0
    assert answer.out.count("cached") == len(LABELS)
    answer = plan(cli, tiny_directory, "epochs=3")
    assert answer.code == 2  # set twice
    answer = plan(cli, tiny_directory, "--refresh", "plot")
    assert answer.code == 3
    assert "refresh asked for" in answer.out
    assert no_line_is_too_wide(answer.out)


def test_says_what_changed(cli: Cli, cache: Store, tiny_directory: Path):
    tiny = [each for each in SET_TINY if not each.startswith("epochs=")]
    answer = cli("plan", "--dataset", str(tiny_directory), *tiny, "epochs=3")
    assert answer.code == 3
    lines = [" ".join(line.split()) for line in answer.out.splitlines()]
    assert "will run train parameter epochs 2 → 3" in lines
    assert "waits calibrate waits for train" in lines
    assert "waits evaluate waits for train and 1 more" in lines


def test_as_json(cli: Cli, cache: Store, tiny_directory: Path, first: Walk):
    answer = plan(cli, tiny_directory, "--json", "--from", "evaluate")
    stages = {stage["label"]: stage for stage in answer.json}
    assert list(stages) == list(LABELS)
    assert stages["train"]["status"] == "cached"
    assert stages["train"]["key"] == first.results["train"].key
    assert stages["evaluate"]["status"] == "will run"
    assert stages["evaluate"]["reasons"] == ["refresh asked for"]
    assert stages["plot"]["waits_for"] == ["evaluate"]


def test_writes_nothing(cli: Cli, tmp_path: Path, tiny_directory: Path):
    assert plan(cli, tiny_directory).code == 3
    assert not (tmp_path / "store").exists()
    assert not list(Path.cwd().iterdir())


POWERS = """
import numpy as np
from digitflow import stage

@stage(outputs={"numbers": "npy"})
def count(*, upto: int):
    return {"numbers": np.arange(upto)}

@stage(outputs={"powers": "npy"})
def power(numbers, *, exponent: int = 2):
    return {"powers": numbers**exponent}

def powers(upto: int = 5, exponent: int = 3):
    return power.submit(count.submit(upto=upto)["numbers"], exponent=exponent)

def needy(upto):
    return count.submit(upto=upto)
"""


@pytest.fixture
def own(alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file with flows of one's own, somewhere else."""
    monkeypatch.setattr("sys.path", [*sys.path])
    name = f"powers_of_{tmp_path.name}"
    monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / f"{name}.py").write_text(POWERS)
    return f"../{name}.py"


def test_a_flow_of_ones_own(cli: Cli, own: str, tmp_path: Path):
    answer = cli("plan", f"{own}:powers", "--param", "exponent=4")
    assert answer.code == 3
    assert [line.split() for line in answer.out.splitlines()][:2] == [
        ["will", "run", "count", "never", "run"],
        ["waits", "power", "waits", "for", "count"],
    ]
    assert not (tmp_path / "store").exists()
    raised = sys.modules[Path(own).stem].powers().result()
    assert not raised.cached
    assert cli("plan", f"{own}:powers").code == 0
    answer = cli("plan", f"{own}:powers", "--param", "exponent=4", "--json")
    assert answer.code == 3
    assert [each["reasons"] for each in answer.json] == [[], ["parameter exponent 3 → 4"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["powers"], "expected FILE.py:NAME or MODULE:NAME"),
        (["nowhere.py:powers"], "found no such file or module"),
        (["OWN:nothing"], "expected a flow or a function, found none of that name"),
        (["OWN:needy"], "missing a required argument: 'upto'; set its parameters with --param"),
        (["OWN:powers", "--param", "exponents=4"], "unexpected keyword argument 'exponents'"),
        (["OWN:powers", "--preset", "quick"], "only --param and --json go with a flow of your own"),
        (["--param", "exponent=4"], "the pipeline takes --set"),
    ],
)
def test_what_is_no_flow_of_ones_own(cli: Cli, own: str, arguments: list[str], says: str):
    answer = cli("plan", *(each.replace("OWN", own) for each in arguments))
    assert answer.code == 2
    assert says in answer.err
