"""The tests see nothing of the environment that they are started in."""

import json
import locale
import os
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.environment import CLEAN
from tests.hostile import HOSTILE
from tests.mnist import ROOT
from tests.patience import PATIENCE


class TestShield:
    """What holds wherever the tests are run; it is run where everything is hostile, too."""

    def test_nothing_is_left_but_what_is_named(self) -> None:
        # scikit-learn leaves two words for OpenMP as it is imported, and threadpoolctl the first.
        openmp = {"KMP_DUPLICATE_LIB_OK": "True", "KMP_INIT_AT_FORK": "FALSE"}
        expected = {**CLEAN, "COLUMNS": "80", **openmp}
        left = {name for name in os.environ if not name.startswith("PYTEST_")}
        assert left - set(expected) == set()
        assert {name for name in left if os.environ[name] == HOSTILE.get(name)} == set()
        assert [each for each in sys.path if (Path(each) / "tests.py").exists()] == []
        program = "import json, os, sys; json.dump(dict(os.environ), sys.stdout)"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        assert json.loads(done.stdout) == dict(os.environ)

    def test_home_is_new_and_what_is_written_can_be_read(self, tmp_path: Path) -> None:
        assert str(Path.home()) == CLEAN["HOME"] != HOSTILE["HOME"]
        (Path.home() / "file").touch()
        (Path.home() / "file").unlink()
        # Also by others: a server may run as somebody else.
        (tmp_path / "file").touch()
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644

    def test_time_language_signals_and_network(self) -> None:
        assert time.tzname == ("UTC", "UTC")
        assert locale.getencoding() == "UTF-8"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert urllib.request.getproxies() == {}


def test_what_another_thread_draws_is_no_fault_of_a_strategy() -> None:
    def draw_elsewhere(number: int) -> int:
        thread = threading.Thread(target=random.random)
        thread.start()
        thread.join()
        return number

    @given(st.integers().map(draw_elsewhere))
    def check(number: int) -> None:
        assert isinstance(number, int)

    check()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_hostile_environment_is_kept_out(workers: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.hostile", f"{__file__}::{TestShield.__name__}"),
            *("-n", workers, "-p", "no:cacheprovider"),
        ],
        cwd=ROOT,
        env={name: text for name, text in CLEAN.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
