"""Sweeps: two workers against one, and successive halving against the whole grid.

    python benchmarks/sweep.py --data PATH/TO/MNIST            # 8 points, both, about 6 minutes
    python benchmarks/sweep.py --data PATH/TO/MNIST --halving  # 27 points, about 4 minutes

Whole commands against one running server, each with a store of its own. The bars: with two
workers at least 1.7 times as fast as with one, with the same bytes; and successive halving ends
with a point within 0.1 percentage points of the whole grid's best in validation accuracy, or
better, for at most 40 % of the grid's epochs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.kernels import kernel_name, use_own_kernels  # noqa: E402
from benchmarks.measure import Cost, Side, timed  # noqa: E402
from benchmarks.prefect_server import running_server  # noqa: E402
from digitflow.storage.store import Store  # noqa: E402

SPEED_BAR = 1.7
EPOCHS_BAR = 0.40
ACCURACY_BAR = 0.001  # of 1: 0.1 percentage points

POINTS = ["learning_rate=0.001,0.002,0.003,0.004", "hidden_sizes=256,257"]
GRID = ["learning_rate=0.001,0.002,0.004", "hidden_sizes=128,256,512", "dropout=0.1,0.2,0.3"]


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: what it cost, what ``run.json`` says, and where its store is."""

    cost: Cost
    record: Mapping[str, Any]
    store: Path

    @property
    def points(self) -> list[dict[str, Any]]:
        """The points as ``run.json`` has them, best first."""
        found: list[dict[str, Any]] = self.record["sweep"]["points"]
        return found

    def digests(self) -> dict[str, str]:
        """Return the digest of every output of every point that was trained to its end."""
        cache = Store(self.store)
        found = {}
        for point in self.points:
            record = cache.records.load("train", point["key"])
            if record is not None:
                label = json.dumps(point["values"], sort_keys=True)
                found |= {f"{label} {k}": each.sha256 for k, each in record.outputs.items()}
        return found


def sweep(home: Path, environment: Mapping[str, str], name: str, arguments: Sequence[str]) -> Sweep:
    """Sweep with an empty store and return what came out."""
    store, results = home / f"store-{name}", home / f"results-{name}"
    command = [sys.executable, "-m", "digitflow", "sweep", *arguments, "--output", str(results)]
    cost = timed(Side(command, PROJECT, {**environment, "DIGITFLOW_STORE": str(store)}))
    return Sweep(cost, json.loads((results / "run.json").read_text()), store)


def compare_workers(
    home: Path, environment: Mapping[str, str], common: Sequence[str], rounds: int
) -> bool:
    """Sweep 8 points with one worker and with two, in turn; return whether the bars are met."""
    print(f"OpenBLAS: {kernel_name()}")
    print(f"{'workers':>8} {'command':>10} {'training':>10} {'CPU':>10}   load before")
    seconds: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    digests = []
    for turn in range(rounds):
        for workers in seconds:
            load = os.getloadavg()[0]
            arguments = [*common, "--grid", *POINTS, "--workers", str(workers)]
            done = sweep(home, environment, f"{workers}-{turn}", arguments)
            training = done.record["sweep"]["seconds"]
            seconds[workers].append((done.cost.wall, training))
            digests.append(done.digests())
            print(
                f"{workers:8} {done.cost.wall:8.1f} s {training:8.1f} s {done.cost.cpu:8.1f} s   "
                f"{load:.1f}",
                flush=True,
            )
    # The least of each: what others do on the machine only ever adds.
    wall, training = (min(each[n] for each in seconds[1]) for n in (0, 1))
    wall_2, training_2 = (min(each[n] for each in seconds[2]) for n in (0, 1))
    ratio = wall / wall_2
    same = all(each == digests[0] for each in digests) and len(digests[0]) == 8 * 3
    verdict = "met" if ratio >= SPEED_BAR else "MISSED"
    print(f"whole command {ratio:.2f} times as fast, training {training / training_2:.2f} times")
    print(f"  bar {SPEED_BAR:.1f} for the whole command: {verdict}")
    outcome = "identical to the last bit" if same else "DIFFERENT: MISSED"
    print(f"  {len(digests[0])} outputs of 8 points, {2 * rounds} sweeps: {outcome}")
    return ratio >= SPEED_BAR and same


def compare_halving(home: Path, environment: Mapping[str, str], common: Sequence[str]) -> bool:
    """Sweep 27 points whole and with successive halving; return whether the bars are met."""
    whole = sweep(home, environment, "whole", [*common, "--grid", *GRID])
    early = ["--early-stop", "successive-halving"]
    halving = sweep(home, environment, "halving", [*common, "--grid", *GRID, *early])
    for name, done in (("whole grid", whole), ("halving", halving)):
        best = done.points[0]
        print(
            f"{name:11} {done.record['sweep']['epochs']:5} epochs {done.cost.wall:7.1f} s  best "
            f"{best['validation_accuracy'] * 100:.2f} %: {json.dumps(best['values'])}"
        )
    share = halving.record["sweep"]["epochs"] / whole.record["sweep"]["epochs"]
    lost = whole.points[0]["validation_accuracy"] - halving.points[0]["validation_accuracy"]
    met = share <= EPOCHS_BAR and lost <= ACCURACY_BAR
    print(f"{share:.1%} of the epochs (bar {EPOCHS_BAR:.0%}), {lost * 100:.2f} percentage points "
          f"lost (bar {ACCURACY_BAR * 100:.1f}): {'met' if met else 'MISSED'}")  # fmt: skip
    # What halving trained to the end has the bytes that the whole grid has.
    found, expected = halving.digests(), whole.digests()
    same = bool(found) and all(expected[name] == digest for name, digest in found.items())
    print(f"  {len(found)} outputs in parts and at once: "
          f"{'identical to the last bit' if same else 'DIFFERENT: MISSED'}")  # fmt: skip
    return met and same


def main() -> int:
    """Print both sweeps and how they compare; exit 1 if a bar is missed."""
    use_own_kernels()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample", help="a name, or a directory of IDX files")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--halving", action="store_true", help="halving instead of workers")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    settings = ["epochs=12", "training_sample=15000"] if options.halving else ["epochs=30"]
    if options.smoke:
        settings = ["epochs=2", "training_sample=60", "validation_size=20", "test_sample=20"]
    common = ["--dataset", options.data, "--preset", "quick", "--set", *settings]
    with tempfile.TemporaryDirectory(prefix="digitflow-sweep-") as folder:
        home = Path(folder)
        with running_server(home) as environment:
            if options.halving:
                met = compare_halving(home, environment, common)
            else:
                met = compare_workers(home, environment, common, options.rounds)
    return int(not met)


if __name__ == "__main__":
    sys.exit(main())
