"""What looks wrong in a dataset: the stages that measure it, computed or served at once."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from digitflow.flows.pipeline import pipeline
from digitflow.flows.spec import RunOptions
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.data.measures import Measures
from digitflow.tasks.data.suspicions import Looks, Suspicion, suspicions
from digitflow.tasks.engine.call import Context, compute, using
from digitflow.tasks.gate.candidate import DATA
from digitflow.tasks.stages.measure import measure
from digitflow.tasks.stages.suspect import suspect


@dataclass(frozen=True)
class Checked:
    """A dataset, what was measured of it, and what looks wrong."""

    dataset: Dataset
    measures: Measures
    looks: Looks
    suspicions: tuple[Suspicion, ...]


def check_dataset(name: str, *, mirror: str | None = None) -> Checked:
    """Measure a dataset, all of it, as the gate measures what a model was trained on.

    Parameters
    ----------
    name
        Of a dataset, a manifest, or a directory with the four IDX files.
    mirror
        URL prefix or folder that is asked first for its files.

    Raises
    ------
    DatasetError
        If there is no such dataset, or it cannot be read.
    """
    everything = {"training_sample": 0, "test_sample": 0}
    spec = RunOptions(name, mirror=mirror, until="preprocess", overrides=everything).spec()
    cache = Store()
    cache.connect()
    with cache.in_use(), using(Context(cache, "dataset check", compute)) as context:
        pipeline(spec)
        prepared = [context.called[-1][output] for output in DATA]
        measured = measure.submit(*prepared, classes=len(spec.dataset.labels)).result()
        seen = suspect.submit(*prepared).result()
        measures = TypeAdapter(Measures).validate_python(cache.read(measured.outputs["measures"]))
        looks = Looks(**cache.read(seen.outputs["looks"]))
    found = suspicions(measures, looks, spec.dataset.class_names)
    return Checked(spec.dataset, measures, looks, found)
