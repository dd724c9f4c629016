"""The environment of the tests, and of every process that they start: nothing of the user's.

Imported by `tests/conftest.py` before anything else, so that NumPy, Matplotlib and Prefect find it.
The workers of pytest-xdist are started in it. `tests/hostile.py` runs the suite where everything
that is kept out here is set to something harmful.
"""

import atexit
import locale
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.mnist import ROOT

# Where programs, their libraries and room for temporary files are.
_PLACES = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
# Between pytest and its workers, and between a developer and the tests.
_PREFIXES = ("PYTEST_", "DIGITFLOW_TEST_")
# How pytest's own report looks. `tests/conftest.py` keeps it from the tests.
SCREEN = ("CI", "COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "PY_COLORS", "TERM")

# For processes that would download: nobody listens on the discard port, so none gets anywhere.
OFFLINE: Mapping[str, str] = MappingProxyType(
    {
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "127.0.0.1,localhost",
    }
)


# What PYTHONPATH was: xdist gives its workers the path on which it was found itself.
_FOREIGN = "DIGITFLOW_TEST_FOREIGN_PATH"


def _foreign() -> list[str]:
    given = [os.environ.get(name, "") for name in (_FOREIGN, "PYTHONPATH")]
    folders = {
        str(Path(each).absolute()) for each in os.pathsep.join(given).split(os.pathsep) if each
    }
    return sorted(folders - {str(ROOT)})


def _clean() -> dict[str, str]:
    kept = {
        name: text
        for name, text in os.environ.items()
        if name in _PLACES or name.startswith(_PREFIXES)
    }
    home = tempfile.mkdtemp(prefix="digitflow-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    ours = {
        "HOME": home,
        # Processes import this project, wherever they are started and whatever is installed.
        "PYTHONPATH": str(ROOT),
        _FOREIGN: os.pathsep.join(_foreign()),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        # How OpenBLAS divides a product among threads changes its last bits, and on a busy
        # machine its threads wait for each other.
        "OPENBLAS_NUM_THREADS": "1",
    }
    # Tests must pass with any kernels. These are the machine's own, unless somebody names others.
    if kernels := os.environ.get("DIGITFLOW_TEST_KERNELS"):
        ours["OPENBLAS_CORETYPE"] = kernels
    return {**kept, **ours}


CLEAN: Mapping[str, str] = MappingProxyType(_clean())
"""The environment itself, for fixtures that live while tests change `os.environ`."""


def _shield() -> None:
    screen = {name: os.environ[name] for name in SCREEN if name in os.environ}
    sys.path[:] = [each for each in sys.path if each not in _foreign()]
    os.environ.clear()
    os.environ.update({**CLEAN, **screen})
    time.tzset()
    locale.setlocale(locale.LC_ALL, "")
    os.umask(0o022)
    # A shell that runs pytest in the background has it, and all that it starts, ignore Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


_shield()
