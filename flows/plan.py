"""What a run would do, found out without running anything and without Prefect or NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from digitflow.flows.pipeline import Selection, pipeline
from digitflow.storage.cache import Cache
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.records import Record
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.engine.stage import Handle, Refs, Stage, StageResult, resolved, sources
from digitflow.tasks.parameters import Parameters


@dataclass(frozen=True)
class PlannedStage:
    """What a run would do with one stage.

    Attributes
    ----------
    stage, label
        Which stage, and the name of this call of it.
    record
        The verified record that would be served, or None if the stage would run.
    reasons
        Why it would run, where that is known now.
    waits_for
        Labels of stages that run first; until then it is open whether this one must.
    """

    stage: str
    label: str
    record: Record | None
    reasons: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        """Whether nothing would be computed."""
        return self.record is not None

    @property
    def outputs(self) -> Mapping[str, Artifact] | None:
        """The outputs where they are known."""
        return None if self.record is None else self.record.outputs

    def result(self) -> StageResult:
        """Return a cached stage as a run would report it."""
        if self.record is None:
            message = f"{self.label} is not cached"
            raise ValueError(message)
        return StageResult(
            self.stage, self.label, self.record.key, self.record.outputs, True, (), 0.0
        )


@dataclass
class Planner:
    """A `Call` that looks keys up."""

    cache: Cache
    selection: Selection
    stages: list[PlannedStage] = field(default_factory=list)

    def __call__(
        self, stage: Stage, label: str, inputs: Refs, parameters: Mapping[str, Any]
    ) -> Handle:
        """Find out what a run would do with this call."""
        planned = self._plan(stage, label, inputs, parameters)
        self.stages.append(planned)
        return Handle(stage, planned)

    def _plan(
        self, stage: Stage, label: str, inputs: Refs, parameters: Mapping[str, Any]
    ) -> PlannedStage:
        open_inputs = [source.label for source in sources(inputs) if source.outputs is None]
        if open_inputs:
            return PlannedStage(stage.name, label, None, (), tuple(dict.fromkeys(open_inputs)))
        found = stage.look_up(
            self.cache,
            label,
            resolved(inputs),
            parameters,
            refresh=self.selection.refreshes(stage.name),
        )
        return PlannedStage(stage.name, label, found.record, found.reasons)


def make_plan(
    cache: Cache, dataset: Dataset, parameters: Parameters, selection: Selection
) -> list[PlannedStage]:
    """Return what a run would do with each of its stages, in order."""
    planner = Planner(cache, selection)
    # Stages that hand on what they were given name the same objects.
    with cache.one_look():
        pipeline(planner, dataset, dataset.mirrors, parameters, selection)
    return planner.stages
