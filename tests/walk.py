"""The pipeline on a tiny dataset, walked without Prefect.

For tests that want the real stages and a real store many times over. As a command it walks in a
process of its own, and prints what it did as JSON::

    python -m tests.walk STORE DATASET [key=value ...]
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digitflow.flows.pipeline import pipeline
from digitflow.flows.selection import Selection
from digitflow.flows.spec import RunSpec
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset, from_directory
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.engine.call import Call, Context, StageResult, compute, using
from digitflow.tasks.engine.events import Event, StageStarted, observing
from digitflow.tasks.engine.plan import Plan, plan
from digitflow.tasks.parameters import Parameters, resolve

# Enough to draw every figure, and little enough to train in milliseconds.
TINY = {"training_sample": 40, "test_sample": 20, "epochs": 2, "hidden_sizes": "8", "dpi": 40}

LABELS = (
    "download-training-images",
    "download-training-labels",
    "download-test-images",
    "download-test-labels",
    "decode-training-images",
    "decode-training-labels",
    "decode-test-images",
    "decode-test-labels",
    "preprocess",
    "train",
    "calibrate",
    "evaluate",
    "plot",
)


def write_dataset(
    folder: Path,
    *,
    shape: tuple[int, int] = (9, 7),
    training: int = 40,
    test: int = 20,
    seed: int = 0,
    labels: Sequence[int] = range(10),
    test_labels: Sequence[int] | None = None,
    dtype: type[np.integer[Any]] = np.uint8,
) -> Path:
    """Write the four gzipped IDX files of a dataset whose classes can be learnt.

    Its labels take the values of `labels` in turn, those of the test set the values of
    `test_labels`, if that is given.
    """
    rng = np.random.default_rng(seed)
    test_labels = labels if test_labels is None else test_labels
    values = np.unique([*labels, *test_labels])
    patterns = rng.integers(0, 256, (len(values), *shape))
    folder.mkdir(parents=True, exist_ok=True)
    for name, count, taken in (("train", training, labels), ("t10k", test, test_labels)):
        labelled = np.resize(np.array(taken, dtype), count)
        noise = rng.integers(0, 60, (count, *shape))
        images = patterns[np.searchsorted(values, labelled)] * 0.7 + noise
        images = np.clip(images, 0, 255).astype(np.uint8)
        idx.write(folder / f"{name}-images-idx3-ubyte.gz", images)
        idx.write(folder / f"{name}-labels-idx1-ubyte.gz", labelled)
    return folder


def tiny_parameters(**changes: Any) -> Parameters:
    """Return the parameters of a tiny run."""
    return resolve("tutorial", {**TINY, **changes})


def planned(
    cache: Store,
    dataset: Dataset,
    parameters: Parameters | None = None,
    selection: Selection | None = None,
) -> Plan:
    """Return what a walk would do."""
    spec = RunSpec(
        dataset, parameters or tiny_parameters(), selection or Selection(), dataset.mirrors
    )
    return plan(pipeline, spec, store=cache, refreshes=spec.selection.refreshes)


@dataclass
class Walk:
    """What a walk did: results by label, and why each stage that computed had to."""

    results: dict[str, StageResult] = field(default_factory=dict)
    started: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def ran(self) -> list[str]:
        """Labels of the stages that computed, in order."""
        return list(self.started)

    def output(self, label: str, output: str) -> Artifact:
        """Return the reference to an output."""
        return self.results[label].outputs[output]

    def digests(self) -> dict[str, str]:
        """Return the digest of every output of every stage."""
        return {
            f"{label}.{name}": artifact.sha256
            for label, result in self.results.items()
            for name, artifact in result.outputs.items()
        }


def walk(
    cache: Store,
    dataset: Dataset,
    parameters: Parameters | None = None,
    selection: Selection | None = None,
    *,
    run: str = "walk",
    observer: Callable[[Event], None] | None = None,
) -> Walk:
    """Run every stage of the pipeline in order, from the cache where it can."""
    done = Walk()
    parameters = parameters or tiny_parameters()
    selection = selection or Selection()

    def execute(call: Call, context: Context) -> StageResult:
        result = compute(call, context)
        done.results[call.label] = result
        return result

    def observe(event: Event) -> None:
        if isinstance(event, StageStarted):
            done.started[event.label] = event.reasons
        if observer is not None:
            observer(event)

    spec = RunSpec(dataset, parameters, selection, dataset.mirrors)
    with observing(observe), using(Context(cache, run, execute, selection.refreshes)):
        pipeline(spec)
    return done


def main(store: str, dataset: str, *assignments: str) -> None:
    """Walk once and print what was done."""
    changes = dict(each.split("=", 1) for each in assignments)
    done = walk(Store(Path(store)), from_directory(dataset), tiny_parameters(**changes))
    print(json.dumps({"ran": done.started, "digests": done.digests(), "code": __file__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
