"""Planning and downloading must not pay for NumPy, nor for Prefect."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "matplotlib", "prefect", "storage", "flows"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("sources", HEAVY | {"requests", "urllib3"}),
        ("fetch", HEAVY),
        ("idx", HEAVY - {"numpy"} | {"requests"}),
        ("sample", {"prefect", "storage", "flows", "requests"}),
    ],
)
def test_what_a_module_brings_in(module, absent):
    code = (
        f"import sys, tasks.data.{module}; print(*{{name.split('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
