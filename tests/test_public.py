"""`import digitflow`: what it offers, how little it loads, and that its examples are true."""

import doctest
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import digitflow
from tests.mnist import ROOT


def test_it_offers_what_it_says_and_loads_nothing_before() -> None:
    script = (
        "import sys, json, digitflow\n"
        "print(json.dumps([name for name in sys.modules if name.startswith('digitflow.')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
    assert {*digitflow.__all__} <= {*dir(digitflow)}
    for name in digitflow.__all__:
        assert getattr(digitflow, name).__doc__, name


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match="it has Model, Store, gate, plan, run, stage"):
        _ = digitflow.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", ["digitflow.flows.direct", "digitflow.tasks.prediction.model"])
def test_examples_are_true(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(module))
    assert found.attempted > 2
    assert found.failed == 0
