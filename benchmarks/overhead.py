"""A fully cached `digitflow run` against a bare Prefect flow of as many trivial cached tasks.

    python benchmarks/overhead.py

Both run against one running server, whole processes, in turn (A B A B …), medians. The bar is
a ratio of 1.25: what verifying every object, writing the results and publishing the report may
cost beside what Prefect itself costs; and 200 MB of memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.measure import Side, in_turn, print_costs, print_ratio, timed  # noqa: E402
from benchmarks.prefect_server import running_server  # noqa: E402

BAR = 1.25
MEMORY_BAR = 200.0  # MB

# As one would write it: cached by Prefect, results kept where Prefect keeps them, and with a
# parameter, as flows that are worth running twice have.
BARE_FLOW = """
from prefect import flow, task
from prefect.cache_policies import INPUTS

@task(cache_policy=INPUTS, persist_result=True)
def trivial(number: int, after: int = 0) -> int:
    return number

@flow
def bare(tasks: int) -> int:
    futures = []
    for number in range(tasks):
        futures.append(trivial.submit(number, futures[-1] if futures else 0))
    return sum(future.result() for future in futures)

bare({stages})
"""


def compare(home: Path, environment: Mapping[str, str], ours: list[str], rounds: int) -> bool:
    """Print what both cost, and how they compare.

    Parameters
    ----------
    home
        Folder for the bare flow and the results.
    environment
        In which commands reach the server.
    ours
        The command of a run.
    rounds
        How often each is measured.

    Returns
    -------
    bool
        Whether the bars are met.
    """
    run = Side([*ours, "--output", str(home / "results")], PROJECT, environment)
    timed(run)  # fills the cache, and says how many tasks to compare with
    stages = len(json.loads((home / "results" / "run.json").read_text())["stages"])
    script = home / "bare.py"
    script.write_text(BARE_FLOW.format(stages=stages), encoding="utf-8")
    bare = Side([sys.executable, str(script)], PROJECT, environment)
    costs = in_turn({"digitflow run": run, "bare Prefect": bare}, rounds)
    print(f"Against a running server: {stages} stages, all cached, {rounds} rounds, medians")
    print_costs(costs)
    met = print_ratio(costs, "digitflow run", "bare Prefect", BAR)
    peak = max(cost.memory for cost in costs["digitflow run"])
    small = peak < MEMORY_BAR
    verdict = "met" if small else "MISSED"
    print(f"  peak memory of a cached run {peak:.0f} MB  bar {MEMORY_BAR:.0f} MB: {verdict}")
    return met and small


def main() -> int:
    """Print the two medians and their ratio; exit 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dataset", default="sample", help="a name, or a directory of IDX files")
    parser.add_argument("--set", nargs="+", metavar="KEY=VALUE", default=[])
    options = parser.parse_args()
    ours = [sys.executable, "-m", "digitflow", "run", "--dataset", options.dataset]
    ours += [part for assignment in options.set for part in ("--set", assignment)]
    with tempfile.TemporaryDirectory(prefix="digitflow-overhead-") as folder:
        home = Path(folder)
        with running_server(home) as environment:
            met = compare(home, environment, ours, options.rounds)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
