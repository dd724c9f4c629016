"""What a run did: what its results, its reports and its record are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.runs import RunRecord
from digitflow.storage.records import now
from digitflow.tasks.data.datasets.dataset import Dataset
from digitflow.tasks.engine.call import StageResult


@dataclass(frozen=True)
class RunSummary:
    """What a run did, for its results, its reports and its record.

    Attributes
    ----------
    name
        Name of the run, as Prefect gave it.
    dataset
        Title of the dataset.
    preset
        Name of the preset.
    parameters
        All of them, resolved.
    stages
        In order.
    seconds
        Wall time.
    metrics
        What `evaluate` found; empty if it did not run.
    folder
        Where the results are.
    model
        Number of the model version that it trained, or None.
    workers
        How many processes trained, where, with how many BLAS threads; None if this one did.
    decision
        The gate's decision about that model, as Markdown; empty if it was not put to it.
    sweep
        The points of a sweep, of which this is the winner's run; None if it is no sweep's.
    notices
        What people have said of the named model that it trained: holds and quarantines.
    source
        The dataset itself; None where only its title is known.
    named
        What the dataset was called by whoever asked for the run: a name, or a path.
    """

    name: str
    dataset: str
    preset: str
    parameters: Mapping[str, Any]
    stages: tuple[StageResult, ...]
    seconds: float
    metrics: Mapping[str, Any]
    folder: Path
    model: int | None = None
    workers: Mapping[str, Any] | None = None
    decision: str = ""
    sweep: Mapping[str, Any] | None = None
    notices: Sequence[str] = ()
    source: Dataset | None = None
    named: str = ""

    def output(self, stage: str, output: str) -> Artifact | None:
        """Return a stage's output, or None if that stage was not part of the run.

        Of an ensemble, what `train` made is what `combine` made of its members.
        """
        result = find_stage(self.stages, stage)
        return None if result is None else result.outputs[output]

    def stages_json(self) -> list[dict[str, Any]]:
        """Return the stages as JSON objects."""
        return [
            {
                "name": result.label,
                "stage": result.stage,
                "cached": result.cached,
                "reasons": list(result.reasons),
                "seconds": result.seconds,
                "key": result.key,
                "outputs": {name: each.to_json() for name, each in result.outputs.items()},
            }
            for result in self.stages
        ]

    def record(self) -> RunRecord:
        """Return what the store keeps of the run, finished now."""
        return RunRecord(
            name=self.name,
            created=now(),
            seconds=self.seconds,
            preset=self.preset,
            dataset=self.dataset,
            parameters=dict(self.parameters),
            stages=tuple(self.stages_json()),
            metrics={name: value for name, value in self.metrics.items() if name != "per_class"},
            results=str(self.folder),
        )

    def as_recorded(self, record: RunRecord) -> RunSummary:
        """Return this summary with what an earlier run of the same stages did and took.

        Parameters
        ----------
        record
            The earlier run's, of stages with the same keys.
        """
        stages = tuple(
            replace(
                result,
                cached=then["cached"],
                reasons=tuple(then["reasons"]),
                seconds=then["seconds"],
            )
            for result, then in zip(self.stages, record.stages, strict=True)
        )
        return replace(self, name=record.name, stages=stages, seconds=record.seconds)


def find_stage(stages: Sequence[StageResult], name: str) -> StageResult | None:
    """Return the result of a stage of a run, or None if it was not part of it.

    What `train` is asked for is what made the run's model: `combine`, where that is an ensemble.
    One whose members were not combined has none.
    """
    found = [result for result in stages if result.stage == name]
    if name == "train" and len(found) > 1:
        return find_stage(stages, "combine")
    return found[0] if found else None
