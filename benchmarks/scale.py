"""Seconds and peak memory of every stage at 10,000, 100,000 and 1,000,000 images of 28 x 28.

    python benchmarks/scale.py            # the tables of docs/performance.md; 4 GB of disk
    python benchmarks/scale.py --smoke    # tiny, and the stages alone: does it still run?

Draws sample sets of these sizes and a sixth more for testing, and takes them through the
pipeline's own wiring, each stage in a process of its own. Seconds are CPU time of the call: looking
up, opening and hashing the inputs, computing, hashing and storing the outputs. Memory is the
largest resident set of the whole process (`ru_maxrss`): interpreter and libraries too, and every
page of a memory map that was touched. Training is one epoch of 784-64-10; `benchmarks/scaling.py`
has the epochs of a real one. At last `digitflow run` does the same in one process, and once more
from the cache.

Bars: time grows with at most the 1.1th power of the number of images, peak memory stays below
1,500 MB, training's does not grow, and decoding is at least 0.9 times as fast as `gzip.decompress`.
"""

import argparse
import gzip
import importlib
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kernels import use_own_kernels  # noqa: E402 - found by now
from benchmarks.measure import MOST_SECONDS, Side, timed  # noqa: E402

SIZES = (10_000, 100_000, 1_000_000)
SMOKE = (300, 600)
EXPONENT_BAR, MEMORY_BAR, GROWTH_BAR, DECODE_BAR = 1.1, 1500.0, 1.2, 0.9
# Below it a stage takes as long as its imports, and no exponent means anything.
LEAST_SECONDS = 0.5
ROUNDS = 5


@dataclass
class Row:
    """A stage at one size: what all its calls took together, and the most that one held."""

    seconds: float = 0.0
    memory: float = 0.0


@dataclass
class Result:
    """What stands for a finished stage in the wiring."""

    outputs: Mapping[str, Any] = field(default_factory=dict)


# In processes of their own


def run_stage(request: dict[str, Any]) -> dict[str, Any]:
    """Run one stage; return its outputs."""
    from digitflow.storage.formats.artifacts import Artifact
    from digitflow.storage.store import Store

    stage = getattr(importlib.import_module(request["module"]), request["stage"])
    inputs = {name: Artifact.from_json(each) for name, each in request["inputs"].items()}
    done = stage.run(Store(), request["label"], inputs, request["parameters"], run="scale")
    return {name: each.to_json() for name, each in done.outputs.items()}


def draw(request: dict[str, Any]) -> dict[str, Any]:
    """Draw a sample set."""
    from digitflow.tasks.data.sample import write_sample

    write_sample(Path(request["folder"]), training=request["images"], test=request["test"], seed=0)
    return {}


def throughput(request: dict[str, Any]) -> dict[str, Any]:
    """Decode a file to the disk and decompress it in memory, in turn; return MB/s of each."""
    from digitflow.tasks.data.idx.arrays import decode

    file, target = Path(request["file"]), Path(request["target"])
    size = 0

    def plain() -> None:
        nonlocal size
        size = len(gzip.decompress(file.read_bytes()))

    sides: dict[str, Callable[[], object]] = {
        "decode": lambda: decode(file, to=target),
        "gzip.decompress": plain,
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            before = time.process_time()
            side()
            seconds[name].append(time.process_time() - before)
    return {name: size / 1e6 / statistics.median(each) for name, each in seconds.items()}


def answer(request: dict[str, Any]) -> None:
    """Do what was asked, and print the result with its costs."""
    before = time.process_time()
    result = {"stage": run_stage, "draw": draw, "throughput": throughput}[request["do"]](request)
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"result": result, "seconds": seconds, "memory": peak}))


# In this process, which stays small: a child's peak starts with that of its parent


class Pipeline:
    """The pipeline at one size, in one folder."""

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.images = folder, images
        self.rows: dict[str, Row] = {}
        self.environment = {
            "DIGITFLOW_STORE": str(folder / "store"),
            "PREFECT_HOME": str(folder / "prefect"),
        }

    @property
    def data(self) -> Path:
        """The folder of the four IDX files."""
        return self.folder / "digits"

    def ask(self, row: str | None, **request: Any) -> Any:
        """Let a process of its own do something, and add its costs to a row."""
        done = subprocess.run(
            [sys.executable, __file__, "--answer", json.dumps(request)],
            env={**os.environ, **self.environment},
            check=True,
            stdout=subprocess.PIPE,
            timeout=MOST_SECONDS,
        )
        said = json.loads(done.stdout)
        if row is not None:
            self._add(row, said["seconds"], said["memory"])
        return said["result"]

    def run(self) -> None:
        """Draw the images and take them through every stage."""
        from digitflow.flows.pipeline import pipeline
        from digitflow.flows.spec import RunSpec
        from digitflow.storage.formats.artifacts import Artifact
        from digitflow.storage.store import Store
        from digitflow.tasks.data.datasets.directory import from_directory
        from digitflow.tasks.engine.call import Call, Context, resolved, using
        from digitflow.tasks.parameters import resolve

        self.ask("draw", do="draw", folder=str(self.data), images=self.images, test=self.test)

        def elsewhere(call: Call, context: Context) -> Result:
            stage = call.stage
            said = self.ask(
                stage.name,
                do="stage",
                module=stage.__module__,
                stage=stage.name,
                label=call.label,
                inputs={name: each.to_json() for name, each in resolved(call.inputs).items()},
                parameters=call.parameters,
            )
            return Result({name: Artifact.from_json(each) for name, each in said.items()})

        dataset = from_directory(self.data)
        spec = RunSpec(dataset, resolve("quick", self.settings), mirrors=dataset.mirrors)
        with using(Context(Store(), "scale", elsewhere)):
            pipeline(spec)

    def run_in_one_process(self) -> None:
        """Do the same with the command, in a store of its own, and again from the cache."""
        settings = [f"{name}={value}" for name, value in self.settings.items()]
        results = ["--output", str(self.folder / "results")]
        command = [sys.executable, "-m", "digitflow", "run", "--preset", "quick", *results]
        environment = {**self.environment, "DIGITFLOW_STORE": str(self.folder / "whole")}
        side = Side([*command, "--dataset", str(self.data), "--set", *settings], ROOT, environment)
        for row in ("digitflow run", "the same, all cached"):
            cost = timed(side)
            self._add(row, cost.cpu, cost.memory)

    @property
    def test(self) -> int:
        return max(1, self.images // 6)

    @property
    def settings(self) -> dict[str, Any]:
        return {"epochs": 1, "hidden_sizes": "64", "validation_size": self.images // 10}

    def _add(self, name: str, seconds: float, memory: float) -> None:
        row = self.rows.setdefault(name, Row())
        row.seconds += seconds
        row.memory = max(row.memory, memory)


def exponent(name: str, pipelines: list[Pipeline]) -> float | None:
    """Return by which power of the number of images a row's time grows, at the largest sizes."""
    before, last = pipelines[-2:]
    if last.rows[name].seconds < LEAST_SECONDS:
        return None
    times = last.rows[name].seconds / before.rows[name].seconds
    return math.log(times) / math.log(last.images / before.images)


def print_table(pipelines: list[Pipeline]) -> dict[str, float]:
    """Print all rows; return the exponents."""
    exponents = {}
    sizes = " | ".join(f"{each.images:,} images" for each in pipelines)
    print(f"| stage | {sizes} | exponent |\n|---|{'---|' * (len(pipelines) + 1)}")
    for name in pipelines[-1].rows:
        rows = [each.rows[name] for each in pipelines]
        cells = " | ".join(f"{row.seconds:.2f} s, {row.memory:.0f} MB" for row in rows)
        power = exponent(name, pipelines)
        if power is not None:
            exponents[name] = power
        print(f"| {name} | {cells} | {'–' if power is None else f'{power:.2f}'} |")
    return exponents


def check(what: str, found: float, bar: float, digits: int, *, at_least: bool = False) -> bool:
    """Print a number beside its bar; return whether it is met."""
    met = found >= bar if at_least else found <= bar
    which = "at least" if at_least else "at most"
    verdict = "met" if met else "MISSED"
    print(f"- {what}: {found:,.{digits}f}; bar: {which} {bar:,.{digits}f}, {verdict}")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="at least two")
    parser.add_argument("--smoke", action="store_true", help="tiny, and the stages alone")
    parser.add_argument("--folder", help="where to put the data, if not where temporary files go")
    parser.add_argument("--answer", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer is not None:
        answer(arguments.answer)
        return 0
    use_own_kernels(1)
    sizes = sorted(SMOKE if arguments.smoke else arguments.sizes)
    pipelines, speeds = [], {}
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            pipeline = Pipeline(Path(folder), size)
            pipeline.run()
            if not arguments.smoke:
                pipeline.run_in_one_process()
            file = pipeline.data / "train-images-idx3-ubyte.gz"
            target = str(pipeline.folder / "decoded.npy")
            if size != sizes[-1]:  # in memory, gzip.decompress takes twice as much as the pixels
                speeds = pipeline.ask(None, do="throughput", file=str(file), target=target)
        pipelines.append(pipeline)
        print(f"{size:,} images: done", file=sys.stderr)
    exponents = print_table(pipelines)
    before, last = pipelines[-2:]
    stages = [row for name, row in last.rows.items()]
    growth = last.rows["train"].memory / before.rows["train"].memory
    ratio = speeds["decode"] / speeds["gzip.decompress"]
    print()
    met = [
        check("largest exponent", max(exponents.values(), default=0.0), EXPONENT_BAR, 2),
        check("peak memory, MB", max(row.memory for row in stages), MEMORY_BAR, 0),
        check(f"training's memory, times that of {before.images:,}", growth, GROWTH_BAR, 2),
        check(
            f"decoding {speeds['decode']:,.0f} MB/s, gzip.decompress "
            f"{speeds['gzip.decompress']:,.0f} MB/s, of {before.images:,} images: ratio",
            ratio,
            DECODE_BAR,
            2,
            at_least=True,
        ),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
