"""Planning and downloading must not pay for NumPy, nor for Prefect."""

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "matplotlib", "prefect", "digitflow.storage", "digitflow.flows"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("datasets.sources", HEAVY | {"requests", "urllib3"}),
        ("download.fetch", HEAVY),
        ("idx.arrays", HEAVY - {"numpy"} | {"requests"}),
        ("sample", {"prefect", "digitflow.storage", "digitflow.flows", "requests"}),
    ],
)
def test_what_a_module_brings_in(module, absent):
    code = f"import sys, digitflow.tasks.data.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not absent & set(done.stdout.split())
