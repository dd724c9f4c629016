"""Benchmarks that are never run rot: each still works, on little data."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("case", ["784-100-10, batch 32", "batch norm", "Adam, NCHW"])
def test_training(case: str) -> None:
    row = run("train.py", "--smoke", "--only", case).splitlines()[-1]
    assert case in row
    assert row.count("|") == 10


@pytest.mark.slow
def test_tutorial() -> None:
    output = run("tutorial.py", "--epochs", "1", "--repeats", "1")
    assert "weights identical to the last bit" in output


@pytest.mark.slow
def test_options_are_explained() -> None:
    for name in ("accuracy.py", "predict.py"):
        assert "usage" in run(name, "--help")
