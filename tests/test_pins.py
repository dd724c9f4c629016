"""What is installed is what the lock files name: all of it, by version and by hash."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mnist import ROOT
from tests.patience import PATIENCE

LOCKS = ("requirements.txt", "requirements-dev.txt")


def pins(file: Path) -> list[str]:
    """Return the requirements of a lock file, each with its options."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS)
def test_each_pin_is_one_version_known_by_its_hashes(lock: str) -> None:
    found = pins(ROOT / lock)
    assert len(found) > 40
    for pin in found:
        assert re.match(
            r"[a-z0-9][a-z0-9.-]*==[^\s;]+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+ *$", pin
        )


def test_nothing_that_is_needed_is_missing() -> None:
    """Packages are installed without asking what they need: the lock files say it."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
