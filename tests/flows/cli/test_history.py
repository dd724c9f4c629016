"""`digitflow runs`, `show` and `diff`."""

import re
from pathlib import Path

import pytest

from digitflow.storage.store import Store
from tests.answers import Cli, no_line_is_too_wide
from tests.finished_runs import a_run
from tests.walk import Walk


@pytest.fixture
def _two_runs(cache: Store) -> None:
    changed = {**a_run("x").parameters, "epochs": 30}
    cache.runs.save(a_run("quiet-ant"))
    cache.runs.save(
        a_run(
            "loud-bee",
            created="2026-11-24T07:00:00.000+00:00",
            parameters=changed,
            metrics={"test_accuracy": 0.8, "test_loss": 0.4},
        )
    )


def test_runs_of_an_empty_store(cli: Cli, tmp_path: Path):
    answer = cli("runs")
    assert (answer.code, "no finished runs yet" in answer.out) == (0, True)
    assert cli("runs", "--json").json == []
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("_two_runs", "terminal")
def test_runs(cli: Cli):
    answer = cli("runs")
    assert answer.code == 0
    assert answer.out.index("loud-bee") < answer.out.index("quiet-ant")
    assert "epochs=30" in answer.out
    assert no_line_is_too_wide(answer.out)
    assert [run["changed"] for run in cli("runs", "--json").json] == [{"epochs": 30}, {}]


@pytest.mark.usefixtures("_two_runs")
@pytest.mark.parametrize("names", [["quiet-ant", "loud-bee"], ["quiet"], ["q", "l"]])
def test_diff(cli: Cli, names: list[str]):
    answer = cli("diff", *names)
    assert answer.code == 0
    assert re.search(r"epochs +20 +30", answer.out)
    assert re.search(r"test_accuracy +0\.7840 +0\.8000 +\+0\.016", answer.out)
    document = cli("diff", *names, "--json").json
    assert document["runs"] == ["quiet-ant", "loud-bee"]
    assert document["parameters"] == {"epochs": [20, 30]}


@pytest.mark.usefixtures("_two_runs")
def test_show_a_run_a_stage_and_an_object(cli: Cli, first: Walk):
    assert "quiet-ant" in cli("show", "quiet").out
    train = cli("show", "train", "--json").json
    assert train["record"] == first.results["train"].key
    sha256 = first.output("train", "predictions").sha256
    shown = cli("show", sha256[:8], "--json").json
    assert shown["object"] == sha256
    assert shown["stage"] == "train"
    assert sorted(each.partition(" ")[0] for each in shown["used_by"]) == ["evaluate", "plot"]
