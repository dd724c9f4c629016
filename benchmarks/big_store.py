"""What commands cost in stores of many records, runs and objects: CPU seconds and opened files.

Run with ``python benchmarks/big_store.py``. A store begins with one run on the built-in sample.
What it grows by is written directly: the records of that run under other keys, a tenth as many
runs as records, and three times as many objects. Every other document looks unused for sixty
days, and so does every object, so that a sweep has something to find.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure import MOST_SECONDS  # noqa: E402 - found by now
from digitflow.flows.pipeline import pipeline  # noqa: E402
from digitflow.flows.spec import RunOptions  # noqa: E402
from digitflow.storage.backends.local import LocalBackend  # noqa: E402
from digitflow.storage.digests import digest_json  # noqa: E402
from digitflow.storage.documents import checksummed  # noqa: E402
from digitflow.storage.history.runs import RUNS  # noqa: E402
from digitflow.storage.objects import object_name  # noqa: E402
from digitflow.storage.records import RECORDS  # noqa: E402
from digitflow.storage.store import Store  # noqa: E402
from digitflow.tasks.engine.call import Context, compute, using  # noqa: E402
from digitflow.tasks.engine.stage import stage  # noqa: E402

SETTINGS = {"training_sample": 500, "test_sample": 100, "epochs": 1, "hidden_sizes": "8"}
THE_RUN = ["--dataset", "sample", "--set", *(f"{name}={each}" for name, each in SETTINGS.items())]
A_RUN = "run-000003"
UNUSED_SECONDS = 60 * 86_400.0


def main() -> None:
    """Measure what the command line asks for, and print it as tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=(1_000, 100_000), help="sizes")
    parser.add_argument("--points", type=int, nargs="*", default=(100, 200, 400, 800))
    parser.add_argument("--stores", type=Path, help="folder in which the stores stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.stores or Path(temporary)
        costs = [measure(folder / f"store-{records}", records) for records in given.records]
        print(f"\n| | {' | '.join(f'{records:,} records' for records in given.records)} |")
        print("|---" * (1 + len(costs)) + "|")
        for name in costs[0]:
            print(f"| {name} | {' | '.join(each[name] for each in costs)} |")
        print("\n| points of a trivial stage | CPU |\n|---|---|")
        for points in given.points:
            print(f"| {points} | {sweep(Path(temporary) / f'sweep-{points}', points):.2f} s |")


def measure(root: Path, records: int) -> dict[str, str]:
    """Return what each command costs in a store of so many records, which is made if need be."""
    is_new = not root.exists()
    make_one_run(root)
    if is_new:
        grow(root, records)
    costs = {}
    with tempfile.TemporaryDirectory() as results:
        for name, arguments in commands(root, Path(results)).items():
            counts = counted(root, arguments)
            costs[name] = f"{counts['cpu']:.2f} s, {counts['opened']:,} files"
            print(f"{root.name}: {name}: {costs[name]}", flush=True)
    return costs


def commands(root: Path, results: Path) -> dict[str, list[str]]:
    """Return the commands to measure, by what stands for them in the table."""
    record = next(Store(root).records.of_stage("train"))
    history = record.outputs["history"].sha256
    whole, part = (["--output", str(results / name)] for name in ("whole", "part"))
    return {
        "`plan`, all cached": ["plan", *THE_RUN],
        "`plan`, a miss explained": ["plan", *THE_RUN, "seed=1"],
        "`run`, all cached": ["run", *THE_RUN, *whole],
        "`run`, all cached, not on record": ["run", *THE_RUN, "--until", "train", *part],
        "`runs`": ["runs"],
        "`diff`": ["diff", A_RUN],
        "`show` of a run": ["show", A_RUN],
        "`show` of a stage": ["show", "train"],
        "`show` of a record": ["show", record.key[:12]],
        "`show` of an object, the first time": ["show", history[:12]],
        "`show` of an object": ["show", history[:12]],
        "`gc`": ["gc"],
        "`verify`": ["verify"],
    }


def counted(root: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command in a process of its own; return what `counted_run.py` has counted."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("counted_run.py"), *arguments],
        env=os.environ | {"DIGITFLOW_STORE": str(root)},
        stdout=subprocess.PIPE,
        check=False,
        text=True,
        timeout=MOST_SECONDS,
    )
    counts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return counts


def make_one_run(root: Path) -> None:
    """Take the pipeline through every stage, and leave the record of a run."""
    spec = RunOptions(dataset="sample", overrides=dict(SETTINGS)).spec()
    with using(Context(Store(root), "first", compute)):
        pipeline(spec)
    with tempfile.TemporaryDirectory() as results:
        counted(root, ["run", *THE_RUN, "--output", f"{results}/whole"])


def grow(root: Path, records: int) -> None:
    """Write so many more records, a tenth as many runs, and three times as many objects."""
    store, place = Store(root), LocalBackend(root)
    run = next(store.runs.newest_first())
    models = [
        asdict(store.records.documents.load(f"{each['stage']}/{each['key']}"))
        for each in run.stages
    ]
    data = {hashlib.sha256(each).hexdigest(): each for each in _bytes(3 * records)}
    for sha256, each in data.items():
        _write(root / object_name(sha256), each, is_used=False)
    objects = cycle(data)
    written: list[dict[str, Any]] = []
    for number in range(records):
        model = models[number % len(models)]
        parameters = model["document"]["parameters"] | {"x": number}
        document = model["document"] | {"parameters": parameters}
        outputs = {
            name: artifact | {"sha256": sha256, "size": len(data[sha256])}
            for (name, artifact), sha256 in zip(model["outputs"].items(), objects, strict=False)
        }
        key = digest_json(document)
        record = model | {"key": key, "document": document, "outputs": outputs}
        path = place.path(RECORDS.file(f"{document['stage']}/{key}"))
        _write(path, checksummed(record), is_used=number % 2 == 0)
        written.append(run.stages[number % len(models)] | {"key": key, "outputs": outputs})
    for number in range(records // 10):
        moment = time.strftime("%Y-%m-%dT%H:%M:%S.000+00:00", time.gmtime(1.7e9 + 60 * number))
        first = number * len(run.stages) % records
        stages = tuple(written[first : first + len(run.stages)])
        made = replace(run, name=f"run-{number:06d}", created=moment, stages=stages)
        for file in (RUNS.file(made.name), RUNS.copy(made.name)):
            _write(place.path(file), RUNS.dump(made), is_used=number % 2 == 0)


def sweep(root: Path, points: int) -> float:
    """Return the CPU seconds that so many points of a trivial stage take."""
    started = time.process_time()
    with using(Context(Store(root), "sweep", compute)):
        for number in range(points):
            trivial.submit(number=number)
    return time.process_time() - started


@stage(outputs={"value": "json"})
def trivial(*, number: int) -> dict[str, int]:
    """Return a point's number."""
    return {"value": number}


def _bytes(count: int) -> Iterator[bytes]:
    return (str(number).encode() for number in range(count))


def _write(path: Path, data: bytes, *, is_used: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if not is_used:
        unused_since = time.time() - UNUSED_SECONDS
        os.utime(path, (unused_since, unused_since))


if __name__ == "__main__":
    main()
