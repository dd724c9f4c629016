"""The comparison with PyTorch and scikit-learn: who is the strongest, what the table says of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import rivals, sgemm, train
from benchmarks.rivals import Case
from tests.environment import CLEAN
from tests.mnist import ROOT
from tests.patience import PATIENCE

CASE = Case("small", 0.80, (100,))
CNN = Case("images", 1.0, (128,), (16, 32))


def result(ours: list[float], **theirs: list[float]) -> dict[str, object]:
    return {
        "seconds": {train.OURS: ours, **theirs},
        "missing": {},
        "rates": {train.OURS: 50.0, "torch": 75.0},
    }


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_strongest_is_that_with_the_least_median():
    # Not the least single time, nor the least mean, nor NumPy's.
    seconds = {"a": [1.0, 5.0, 5.0], "b": [4.0, 4.0, 90.0], "c": [9.0, 9.0, 9.0], "NumPy": [0.1]}
    assert train.by_strength(seconds) == ["b", "a", "c"]


def test_the_bar_is_against_the_strongest():
    weak = result([3.0, 4.0, 3.0], default=[10.0, 10.0, 10.0], fused=[4.0, 4.0, 5.0])
    found = cells(train.row(CASE, weak))
    assert found[:8] == ["small", "3.000", "fused", "4.000", "0.75", "0.60–1.00", "0.80", "met"]
    strong = result([3.0, 4.0, 3.0], default=[10.0, 10.0, 10.0], fused=[3.5, 3.5, 3.5])
    assert cells(train.row(CASE, strong))[7] == "**missed**"
    assert "fused 3.500 (0.86); default 10.000 (0.30)" in train.row_of_all(CASE, strong)


def test_how_much_of_the_ratio_is_blas():
    found = cells(train.row(CASE, result([3.0], fused=[4.0])))
    share = 60_000 * 2 * 100 * (2 * 784 + 3 * 10) / 50e9 / 3
    assert found[8:] == ["50", "75", "1.50", f"{share:.0%}"]
    sklearn = Case("its own", 0.6, (100,), library="sklearn")
    assert cells(train.row(sklearn, result([3.0], fused=[4.0])))[8:11] == ["50", "50", "1.00"]


def test_all_rows_have_the_cells_of_their_heads():
    missing = {"seconds": {train.OURS: [1.0]}, "missing": {"default": "torch is not installed"}}
    missing["rates"] = {train.OURS: 50.0}
    rows = [*train.HEAD, train.row(CASE, result([3.0], fused=[4.0])), train.row(CASE, missing)]
    assert {row.count("|") for row in rows} == {13}
    assert "| torch is not installed |" in rows[-1]
    assert "default: not run, torch is not installed" in train.row_of_all(CASE, missing)


def test_the_products_of_a_batch():
    assert sgemm.products(CASE) == {
        (128, 784, 100): 1,
        (784, 128, 100): 1,
        (128, 100, 10): 1,
        (100, 128, 10): 1,
        (128, 10, 100): 1,
    }
    flops = 2 * (2 * 9 * 16 * 784 + 3 * 144 * 32 * 196 + 3 * 1568 * 128 + 3 * 128 * 10)
    assert sgemm.flops_per_image(CNN) == flops


def test_every_way_of_pytorch_is_a_rival():
    dense = ["default", "fused", "fused, compile", "fused, max-autotune"]
    assert list(rivals.rivals(CASE)) == dense
    last = [f"channels_last, {name}".replace(", default", "") for name in dense]
    assert list(rivals.rivals(CNN)) == [*dense, *last]


def test_what_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert rivals.why_missing(CASE, "fused") == "torch is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(rivals, "_why_not_fused", lambda: "")
    monkeypatch.setenv("CXX", "/nowhere/c++")
    assert "found no /nowhere/c++" in rivals.why_missing(CASE, "fused, compile")
    assert rivals.why_missing(CASE, "fused") == ""


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("case", ["784-512-256-10, batch norm", "cnn"])
def test_each_rival_trains(case: str, tmp_path: Path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "train.py", "--smoke", "--only", case],
        cwd=ROOT,
        env={**CLEAN, "HOME": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.split(train.HEAD_OF_ALL[0])[1]
    for name in rivals.rivals(next(each for each in train.CASES if case in each.name)):
        assert f" {name} " in last or f" {name}: not run" in last
