"""Stage `suspect`: what a network is trained and tested on → what looks wrong with it, measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"looks": "json"})
def suspect(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    test_inputs: NDArray[Any],
    test_targets: NDArray[Any],
) -> dict[str, Any]:
    """Look for near-duplicates, wrong labels, constant pixels and images that are turned."""
    from dataclasses import asdict

    from digitflow.tasks.data.suspicions import look

    return {"looks": asdict(look(training_inputs, training_targets, test_inputs, test_targets))}
