"""Nothing that an edit makes stale is served, and what changes nothing runs nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_of_all_edits_none_leaves_a_stale_hit_and_none_that_changes_nothing_runs_anything():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "staleness.py", "--json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) >= 45
    assert [each["name"] for each in found if each["stale"]] == []
    # Every edit of the first kind does change a value, or it would try nothing.
    assert sum(each["changes"] for each in found) == 30
    assert [each["name"] for each in found if each["ran"] and not each["changes"]] == []
    # What is done while modules are loaded counts for every stage that loads them.
    assert sum(bool(each["unneeded"]) for each in found) <= 7
