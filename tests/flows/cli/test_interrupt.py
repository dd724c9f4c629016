"""Ctrl-C and a closed pipe, from the first import on: the exit codes that shells expect."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mnist import ROOT
from tests.patience import PATIENCE

# Interrupts itself as it looks for the n-th module, and so at a moment that is always the same.
INTERRUPTED = """
import os, signal, sys
from digitflow.__main__ import main

class Interrupt:
    left = int(sys.argv.pop(1))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        cls.left -= 1
        if cls.left == 0:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt)
sys.exit(main())
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    ours = {"HOME": str(tmp_path / "home"), "DIGITFLOW_STORE": str(tmp_path / "store")}
    return {**os.environ, **ours, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("at", [1, 2, 10, 40, 100, 150, 200, 250, 300])
def test_an_interrupt_at_any_import_is_130_and_no_traceback(
    at: int, environment: dict[str, str], tmp_path: Path
):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(at), "plan", "--dataset", "sample"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    if done.returncode == 3:
        pytest.skip(f"a plan takes fewer than {at} imports")
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("stopped")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [
        "parameters",
        "parameters --json",
        "plan --dataset sample",
        "retrain --dataset sample",
        "verify",
        "--help",
        "run --help",
    ],
)
def test_who_loses_the_reader_ends_as_by_sigpipe(
    command: str, environment: dict[str, str], tmp_path: Path
):
    """As `digitflow … | head -1` leaves: silently, and with no verdict that was not given."""
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "digitflow", *command.split()],
            cwd=tmp_path,
            env=environment,
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")
