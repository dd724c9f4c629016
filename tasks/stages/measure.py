"""Stage `measure`: what a network is trained and tested on → numbers that tell when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"measures": "json"})
def measure(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    test_inputs: NDArray[Any],
    test_targets: NDArray[Any],
    *,
    classes: int,
) -> dict[str, Any]:
    """Count classes, blank, repeated and shared images, and measure what images look like."""
    from pydantic import TypeAdapter

    from digitflow.tasks.data.measures import Measures, measure_data

    measured = measure_data(
        training_inputs, training_targets, test_inputs, test_targets, classes=classes
    )
    # As JSON has it: lists, and no tuples.
    return {"measures": TypeAdapter(Measures).dump_python(measured, mode="json")}
