"""Records of runs as they are made at the end of one."""

from dataclasses import replace
from typing import Any

from digitflow.storage.history.runs import RunRecord
from digitflow.tasks.parameters import PRESETS, Parameters
from tests.walk import Walk


def a_run(name: str, **changes: Any) -> RunRecord:
    parameters = Parameters(**PRESETS["tutorial"]).model_dump(mode="json")
    run = RunRecord(
        name=name,
        created="2026-11-23T07:00:00.000+00:00",
        seconds=12.5,
        preset="tutorial",
        dataset="MNIST",
        parameters=parameters,
        stages=(),
        metrics={"test_accuracy": 0.784, "test_loss": 0.436},
        results=None,
    )
    return replace(run, **changes)


def with_outputs(stages: tuple[dict[str, Any], ...], done: Walk) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            **stage,
            "stage": done.results[stage["name"]].stage,
            "reasons": [],
            "seconds": 0.1,
            "outputs": {
                name: each.to_json() for name, each in done.results[stage["name"]].outputs.items()
            },
        }
        for stage in stages
    )
