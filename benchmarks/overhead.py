"""A fully cached `digitflow run` against a bare Prefect flow of as many trivial cached tasks.

Both run against one running server, whole processes, in turn (A B A B …), medians. The bar is
a ratio of 1.25: what verifying every object, writing the results and publishing the report may
cost beside what Prefect itself costs. Run it with ``python benchmarks/overhead.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.prefect_server import running_server  # noqa: E402

BAR = 1.25

# As one would write it: cached by Prefect, results kept where Prefect keeps them.
BARE_FLOW = """
from prefect import flow, task
from prefect.cache_policies import INPUTS

@task(cache_policy=INPUTS, persist_result=True)
def trivial(number: int, after: int = 0) -> int:
    return number

@flow
def bare() -> int:
    futures = []
    for number in range({stages}):
        futures.append(trivial.submit(number, futures[-1] if futures else 0))
    return sum(future.result() for future in futures)

bare()
"""


def main() -> int:
    """Print the two medians and their ratio; exit 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dataset", default="sample", help="a name, or a directory of IDX files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="digitflow-overhead-") as folder:
        home = Path(folder)
        script = home / "bare.py"
        with running_server(home) as environment:
            ours = [sys.executable, "-m", "flows", "run", "--dataset", options.dataset]
            ours += ["--output", str(home / "results")]
            sides = {"digitflow": ours, "bare Prefect": [sys.executable, str(script)]}
            _timed(ours, environment)  # fills the cache, and says how many tasks to compare with
            stages = json.loads((home / "results" / "run.json").read_text())["stages"]
            script.write_text(BARE_FLOW.format(stages=len(stages)), encoding="utf-8")
            _timed(sides["bare Prefect"], environment)
            times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in sides}
            for _ in range(options.rounds):
                for name, command in sides.items():
                    times[name].append(_timed(command, environment))
    print(f"{len(stages)} stages, all cached, {options.rounds} rounds, medians")
    for name, runs in times.items():
        wall, cpu, memory = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{name:14} {wall:6.2f} s wall  {cpu:6.2f} s CPU  {memory:6.0f} MB")
    ratios = [
        statistics.median(run[kind] for run in times["digitflow"])
        / statistics.median(run[kind] for run in times["bare Prefect"])
        for kind in (0, 1)
    ]
    print(f"ratio          {ratios[0]:6.2f}   wall  {ratios[1]:6.2f}   CPU   (bar {BAR} wall)")
    return int(ratios[0] > BAR)


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Run a command; return wall seconds, CPU seconds and peak memory in MB."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    errors = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors.decode()}")
    process.returncode = 0
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
