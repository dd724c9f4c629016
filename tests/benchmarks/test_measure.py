"""What measures whole processes."""

import sys
from pathlib import Path

import pytest

from benchmarks.measure import Side, timed


def test_a_command_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.measure.MOST_SECONDS", 0.5)
    side = Side([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, {})
    with pytest.raises(RuntimeError, match="failed with -9 after 0 s, which is too long"):
        timed(side)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    side = Side([sys.executable, "-c", "raise SystemExit('no')"], tmp_path, {})
    with pytest.raises(RuntimeError, match="failed with 1:\nno"):
        timed(side)
    assert timed(Side([sys.executable, "-c", ""], tmp_path, {})).wall > 0
