"""`digitflow audit` and `accept`: exit codes, what is said, and as JSON."""

from dataclasses import replace
from pathlib import Path

import pytest

from digitflow.storage.store import Store
from tests import own_project
from tests.answers import Cli
from tests.own_project import edit, loaded, run


@pytest.fixture
def own(alone: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Somebody's own project, run once: its module's name."""
    name = own_project.make(Path.cwd(), monkeypatch)
    run(Store(), name)
    return name


def test_what_is_mistyped(cli: Cli):
    answer = cli("audit", "--sample", "5")
    assert (answer.code, "such as 5%" in answer.err) == (2, True)
    assert cli("audit", "--stage", "trian").code == 2
    assert cli("audit").out == "0 of 0 computed again: 0 same, 0 different\n"
    answer = cli("accept", "train", "--reason", " ")
    assert (answer.code, "--reason: expected why" in answer.err) == (2, True)
    assert cli("accept", "train").code == 2
    assert cli("accept", "train", "--reason", "x", "--param", "a=1").code == 2


def test_a_wrong_record_is_red(cli: Cli, own: str):
    store = Store()
    (record,) = store.records.of_stage("scale")
    wrong = {**record.outputs, "total": record.outputs["numbers"]}
    store.records.save(replace(record, outputs=wrong))
    answer = cli("audit", "--stage", "scale", "--json")
    assert answer.code == 1
    (found,) = answer.json["records"]
    assert (found["verdict"], found["key"]) == ("differs", record.key)
    answer = cli("audit", "--stage", "scale")
    assert answer.code == 1
    assert answer.out.startswith("  differs          scale")
    assert f"key {record.key[:12]}… of run first" in answer.out
    assert answer.out.endswith("1 of 1 computed again: 0 same, 1 different\n")


def test_an_accepted_edit(cli: Cli, own: str):
    edit(own, "factor * each", "each * factor")
    loaded(own)
    flow = ("--flow", f"{own}.py:both")
    assert cli("plan", f"{own}.py:both").code == 3
    refused = cli("accept", "scale", *flow, "--param", "factor=4", "--reason", "swapped")
    assert refused.code == 1
    assert "parameter factor 3 → 4" in refused.err
    answer = cli("accept", "scale", *flow, "--reason", "swapped", "--by", "anna")
    assert answer.code == 0
    assert f"code changed: {own}.py (scaled)" in answer.out
    assert "nothing to accept" in cli("accept", "scale", *flow, "--reason", "swapped").out
    planned = cli("plan", f"{own}.py:both")
    assert planned.code == 0
    (line,) = [each for each in planned.out.splitlines() if "scale" in each]
    assert line.split()[:2] == ["accepted", "scale"]
    assert line.endswith("by anna: swapped")
    (stage,) = [
        each for each in cli("plan", f"{own}.py:both", "--json").json if each["label"] == "scale"
    ]
    assert (stage["status"], stage["accepted"]["reason"]) == ("cached", "swapped")
    shown = cli("show", stage["key"])
    assert "accepted" in shown.out
    assert "by = anna" in shown.out
