"""Nothing that an edit makes stale is served, and what changes nothing runs nothing."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.staleness import EDITS, make
from benchmarks.staleness_peers.trial import STAGES, TOOLS

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


@pytest.mark.parametrize("tool", TOOLS)
def test_each_edit_is_made_to_each_peer(tool: str, tmp_path: Path):
    """But for the tags of stages, which not all tools have."""
    peers = importlib.import_module(f"benchmarks.staleness_peers.{tool}").PEERS
    for number, peer in enumerate(peers):
        missing = []
        for each, edit in enumerate(EDITS):
            project = tmp_path / f"{number}-{each}"
            make(project, peer.files)
            try:
                edit.apply(project)
            except LookupError:
                missing.append(edit.name)
        assert missing == ([] if tool == "prefect" else ["tags of a stage"])
        for stage in STAGES:  # each says that it runs, or nobody could count it
            said = [path for path in project.rglob("*.py") if f'ran("{stage}")' in path.read_text()]
            assert len(said) == 1
