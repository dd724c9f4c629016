"""Accuracy of the presets on MNIST over several seeds, with the time they take.

    python benchmarks/accuracy.py mlp --seeds 0 1 2 3 4
    python benchmarks/accuracy.py cnn --data DIR --set epochs=20 --validation-only

The data is MNIST's four gzipped IDX files, by default from ``../shared/data/mnist`` beside the
project. `--validation-only` prints nothing about the test set: settings are chosen that way.
"""

import argparse
import gzip
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.kernels import kernel_name, use_own_kernels  # noqa: E402 - found by now
from digitflow.tasks.nn.presets import PRESETS  # noqa: E402
from digitflow.tasks.nn.settings import TrainingSettings  # noqa: E402
from digitflow.tasks.nn.training.reports import EpochReport  # noqa: E402
from digitflow.tasks.nn.training.train import train_network  # noqa: E402


def read_idx(path: Path, header: int) -> Any:
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header)


def load(folder: Path) -> list[Any]:
    arrays = []
    for prefix in ("train", "t10k"):
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", 16)
        arrays.append(images.reshape(-1, 28, 28))
        arrays.append(read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", 8))
    return arrays


def show(report: EpochReport) -> None:
    print(
        f"  epoch {report.epoch + 1}/{report.epochs}: train {report.train_loss:.4f} "
        f"{report.train_accuracy:.4f}, validation {report.held_out_loss:.4f} "
        f"{report.held_out_accuracy:.4f}, {report.seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def main() -> None:
    use_own_kernels(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", choices=list(PRESETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/mnist")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON")
    parser.add_argument("--validation-only", action="store_true")
    arguments = parser.parse_args()
    data = load(arguments.data)
    changes = {name: json.loads(value) for name, value in (s.split("=", 1) for s in arguments.set)}
    accuracies, seconds = [], []
    for seed in arguments.seeds:
        settings = TrainingSettings(**{**PRESETS[arguments.preset], **changes, "seed": seed})
        start = time.process_time()
        result = train_network(*data, settings=settings, progress=show)
        seconds.append(time.process_time() - start)
        validation = result.history["validation_accuracy"][-1]
        line = f"{arguments.preset} seed {seed}: validation {validation:.4f}"
        if not arguments.validation_only:
            accuracies.append(float(np.mean(result.outputs.argmax(axis=1) == data[3])))
            line += f", test {accuracies[-1]:.4f}"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{line}, {seconds[-1]:.1f} s of CPU, peak memory {peak:.0f} MB", flush=True)
    if accuracies:
        spread = f"{min(accuracies):.4f} to {max(accuracies):.4f}"
        print(
            f"{arguments.preset}: mean test accuracy {statistics.mean(accuracies):.4f} "
            f"({spread}, {len(accuracies)} seeds), mean {statistics.mean(seconds):.1f} s of CPU "
            f"({kernel_name()})"
        )


if __name__ == "__main__":
    main()
