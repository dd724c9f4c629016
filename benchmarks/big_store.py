"""How long commands take in a store of many records, runs and objects.

Run with ``python benchmarks/big_store.py --records 100000 --runs 10000 --objects 300000``. The
store is made by writing its files directly: runs and records are alike but for their numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.runs import RUNS, RunRecord
from digitflow.storage.keys import StageKey
from digitflow.storage.objects import object_name
from digitflow.storage.records import RECORDS, Record
from digitflow.storage.store import Store

STAGES = 12
POINTS = (100, 200, 400, 800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--objects", type=int, default=30_000)
    parser.add_argument("--points", type=int, nargs="*", default=POINTS)
    parser.add_argument("--store", type=Path, help="kept, and used again if it is there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = given.store or Path(temporary) / "store"
        if not root.exists():
            with timed("made"):
                make(root, given.records, given.runs, given.objects)
        for name, arguments in commands(root).items():
            command(root, name, arguments)
        for points in given.points:
            sweep(Path(temporary) / f"sweep-{points}", points)


def make(root: Path, records: int, runs: int, objects: int) -> None:
    """Write a store."""
    digests = [_put(root, str(number).encode()) for number in range(objects)]
    place = LocalBackend(root)
    each = max(1, objects // max(1, records))
    keys = []
    for number in range(records):
        outputs = digests[number * each % objects :][:each]
        key = StageKey(
            f"stage{number % STAGES}",
            {"big.py": {"f": f"{number % 7:064d}"}},
            {"number": number},
            {"before": digests[(number * 7) % objects]},
        )
        record = Record(
            key.digest(),
            f"stage{number % STAGES}",
            key.document(),
            {f"output{place}": Artifact(sha256, 1, "file") for place, sha256 in enumerate(outputs)},
            "big",
            "2026-01-01T00:00:00.000+00:00",
            1.0,
        )
        keys.append(record)
        _write(place.path(RECORDS.file(f"{record.stage}/{record.key}")), RECORDS.dump(record))
    for number in range(runs):
        stages = tuple(
            {
                "name": record.label,
                "stage": record.stage,
                "key": record.key,
                "cached": False,
                "reasons": ["never run"],
                "seconds": 1.0,
                "outputs": {name: each.to_json() for name, each in record.outputs.items()},
            }
            for record in (keys[(number * STAGES + place) % records] for place in range(STAGES))
        )
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(1.7e9 + 60 * number))
        run = RunRecord(
            f"run-{number:06d}", moment, 1.0, "quick", "MNIST", {"seed": number}, stages, {}, None
        )
        for file in (RUNS.file(run.name), RUNS.copy(run.name)):
            _write(place.path(file), RUNS.dump(run))


def commands(root: Path) -> dict[str, list[str]]:
    """Return the commands to time, by name."""
    sha256 = next(iter(Store(root).objects))
    return {
        "runs, the first time": ["runs"],
        "runs": ["runs"],
        "show RUN": ["show", "run-000017"],
        "diff": ["diff", "run-000017"],
        "show OBJECT, the first time": ["show", sha256[:12]],
        "show OBJECT": ["show", sha256[:12]],
        "plan (all missing)": ["plan", "--dataset", "sample"],
        "gc": ["gc"],
        "verify": ["verify"],
    }


def command(root: Path, name: str, arguments: list[str]) -> None:
    """Time a command in a process of its own."""
    environment = os.environ | {"DIGITFLOW_STORE": str(root)}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "digitflow", *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=3600,
    )
    print(f"| {name} | {time.perf_counter() - started:.2f} s |", flush=True)


def sweep(root: Path, points: int) -> None:
    """Time so many points of a trivial stage."""
    store = Store(root)
    with timed(f"{points} points of a trivial stage"):
        for number in range(points):
            key = StageKey("trivial", {}, {"number": number}, {})
            store.cache.obtain(key, "trivial", _value(number), {"value": "json"}, run="sweep")


def _value(number: int) -> Callable[[Path], dict[str, Any]]:
    return lambda scratch: {"value": number}


def _put(root: Path, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    _write(root / object_name(sha256), data)
    return sha256


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


class timed:  # noqa: N801 (reads as a word)
    """Print how long its block takes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *exception: object) -> None:
        print(f"| {self.name} | {time.perf_counter() - self.started:.2f} s |", flush=True)


if __name__ == "__main__":
    main()
