"""The searches by which settings were chosen: run again, and their tables written.

    python benchmarks/search.py                                  # those of the presets
    python benchmarks/search.py benchmarks/searches/quick.toml   # one

Each is a sweep that `digitflow sweep FILE` takes as well. Beside it goes a table with a row a
setting: mean and spread over the seeds of what the validation set says; the test set is not looked
at. One process and one BLAS thread; what is in the store is not trained again.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:
    sys.path.insert(0, str(PROJECT))

from benchmarks.kernels import use_own_kernels  # noqa: E402
from benchmarks.trainings import Trainings  # noqa: E402
from digitflow.storage.store import Store  # noqa: E402
from digitflow.tasks.data.datasets.sources import DEFAULT_DATASET  # noqa: E402
from digitflow.tasks.nn.presets import PRESETS  # noqa: E402
from digitflow.tasks.nn.training.reports import TrainingDivergedError  # noqa: E402
from digitflow.tasks.sweeps.file import SweepFile, read_sweep  # noqa: E402
from digitflow.tasks.sweeps.grid import Point, shown  # noqa: E402
from digitflow.tasks.sweeps.ranking import METRICS, scores_of  # noqa: E402

SEARCHES = PROJECT / "benchmarks" / "searches"
# Enough to train on, with every setting of the searches.
SMOKE = {"training_sample": 80, "test_sample": 20, "validation_size": 20, "epochs": 2}
# What a setting reached with a seed whose training ended with a loss that is no number any more.
DIVERGED = {"validation_accuracy": 0.0, "validation_loss": math.inf}


@dataclass(frozen=True)
class Setting:
    """What one setting reached on the validation set.

    Attributes
    ----------
    values
        That tell it from the others; the seed is none of them.
    accuracies, losses
        One a seed.
    """

    values: Mapping[str, Any]
    accuracies: Sequence[float]
    losses: Sequence[float]

    def row(self) -> dict[str, str]:
        """Return the setting as a row of the table."""
        return {
            **{name: shown(value) for name, value in self.values.items()},
            "seeds": str(len(self.accuracies)),
            "validation_accuracy": f"{statistics.mean(self.accuracies):.4f}",
            "spread": f"{spread(self.accuracies):.4f}",
            "validation_loss": f"{statistics.mean(self.losses):.4f}",
        }


def file_of(name: str) -> Path:
    """Return the file of a search."""
    return SEARCHES / f"{name}.toml"


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def search(trainings: Trainings, points: Sequence[Point]) -> list[Setting]:
    """Train every point and return the settings, best first.

    One seed's luck is as large as what settings differ by, so the mean over the seeds ranks.
    """
    reached: dict[str, list[Mapping[str, float]]] = {}
    values: dict[str, dict[str, Any]] = {}
    for place, point in enumerate(points, 1):
        own = {name: value for name, value in point.values.items() if name != "seed"}
        label = " ".join(f"{name}={shown(value)}" for name, value in own.items())
        values[label] = own
        scores: Mapping[str, float] = DIVERGED
        try:
            history = trainings.train(point.parameters).history
            scores = scores_of(history, point.parameters.patience)
        except TrainingDivergedError as error:
            print(error, file=sys.stderr)
        reached.setdefault(label, []).append(scores)
        said = f"{place}/{len(points)} {point.label}: {scores[METRICS[0]]:.4f}"
        print(said, file=sys.stderr, flush=True)
    settings = [
        Setting(values[label], *([each[name] for each in scores] for name in METRICS))
        for label, scores in reached.items()
    ]
    return sorted(
        settings, key=lambda each: (-statistics.mean(each.accuracies), statistics.mean(each.losses))
    )


def write_table(file: Path, settings: Sequence[Setting]) -> None:
    """Write the table of a search beside its file."""
    rows = [setting.row() for setting in settings]
    with file.with_suffix(".csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def shrunk(sweep: SweepFile, dataset: str) -> SweepFile:
    """Return one point of a search, tiny: to see that it runs."""
    grid = {name: tried[:1] for name, tried in sweep.grid.items() if name not in SMOKE}
    return SweepFile(sweep.preset, dataset, {**sweep.settings, **SMOKE}, grid)


def run_search(cache: Store, file: Path, *, smoke_on: str | None = None) -> Setting:
    """Search, write the table and return the best setting.

    Parameters
    ----------
    cache
        The store, in use.
    file
        Of the search.
    smoke_on
        Try one tiny point on this dataset instead, and write no table.
    """
    sweep = read_sweep(file)
    if smoke_on is not None:
        sweep = shrunk(sweep, smoke_on)
    settings = search(Trainings(cache, sweep.dataset or DEFAULT_DATASET), sweep.points())
    if smoke_on is None:
        write_table(file, settings)
    return settings[0]


def main() -> None:
    """Run searches, write their tables and print the best setting of each."""
    use_own_kernels(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="default: those of the presets")
    parser.add_argument("--smoke", metavar="DATASET", help="one tiny point each, no table")
    options = parser.parse_args()
    cache = Store()
    cache.connect()
    with cache.in_use():
        for file in options.files or [file_of(name) for name in PRESETS]:
            best = run_search(cache, file, smoke_on=options.smoke)
            print(f"{file.stem}: {best.row()}", flush=True)


if __name__ == "__main__":
    main()
