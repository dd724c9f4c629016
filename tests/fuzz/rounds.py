"""Rounds of coverage-guided fuzzing, each in a process of its own.

The tests run short ones. A long round of every target, or of those that are named::

    python -m tests.fuzz.rounds --seconds 300 [--keep] [TARGET ...]

An input that is a finding is written to ``findings/`` below the working folder, and the exit code
is 1. With ``--keep``, inputs that reached something new join the corpus.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import corpus
from tests.mnist import ROOT
from tests.patience import PATIENCE

TARGET_NAMES = (
    *("idx", "manifest", "record", "run"),
    *("npy", "npz", "table", "csv", "json", "png", "text", "folder"),
)

# Seconds that one input of a long round may take.
_SLOWEST_INPUT = 10


@dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes
    ----------
    inputs
        How many inputs were tried.
    features
        How many distinct things they made the code do, as libFuzzer counts them.
    finding
        What it ended with, or None if nothing was found.
    """

    inputs: int
    features: int
    finding: str | None


def fuzz(
    target: str, *, new: Path, findings: Path, inputs: int | None = None, seconds: int = 0
) -> Round:
    """Fuzz one target.

    Parameters
    ----------
    target
        Its name.
    inputs
        How many to try, however long that takes.
    seconds
        How long to try them, if their number is not given.
    new
        Folder for inputs that reach something new.
    findings
        Folder for an input that is a finding.
    """
    limits = [f"-runs={inputs}"]
    if inputs is None:
        limits = [f"-max_total_time={seconds}", f"-timeout={_SLOWEST_INPUT}"]
    new.mkdir(parents=True, exist_ok=True)
    findings.mkdir(parents=True, exist_ok=True)
    before = new.with_name(f"{new.name}-before")
    corpus.unpack(target, before)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.worker", target, new, before),
            *limits,
            *("-print_final_stats=1", f"-artifact_prefix={findings}/{target}-"),
            # The worker limits what it takes itself. libFuzzer's own limit is on the process's
            # peak, which Linux lets a child inherit: that of a test process is gigabytes.
            "-rss_limit_mb=0",
        ],
        cwd=ROOT,
        # One arena, or each thread would reserve addresses that count as memory taken.
        env={**os.environ, "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=seconds + PATIENCE,
    )
    tried = re.search(r"number_of_executed_units: (\d+)", done.stdout)
    features = re.findall(r" ft: (\d+)", done.stdout)
    told = "\n".join(
        line for line in done.stdout.splitlines() if not line.startswith(("#", "INFO"))
    )
    return Round(
        int(tried[1]) if tried else 0,
        int(features[-1]) if features else 0,
        told if done.returncode or not tried else None,
    )


def main() -> int:
    """Run long rounds and print a line for each; exit 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=TARGET_NAMES)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--keep", action="store_true", help="add new inputs to the corpus")
    options = parser.parse_args()
    found = False
    for target in options.targets:
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / "new"
            done = fuzz(
                target, seconds=options.seconds, new=new, findings=Path("findings").absolute()
            )
            if options.keep:
                corpus.keep(target, (file.read_bytes() for file in new.iterdir()))
            reached = sum(1 for _ in new.iterdir())
        print(
            f"{target:8} {done.inputs:12,} inputs {done.features:6,} features "
            f"{reached:5,} new to the corpus  {'FOUND' if done.finding else 'nothing found'}",
            flush=True,
        )
        if done.finding:
            found = True
            print(done.finding, flush=True)
    return int(found)


if __name__ == "__main__":
    sys.exit(main())
