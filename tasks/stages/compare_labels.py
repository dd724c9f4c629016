"""Stage `compare-labels`: two datasets → how many of their common images are labelled otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"agreement": "json"})
def compare_labels(
    training_inputs: NDArray[Any],
    training_targets: NDArray[Any],
    test_inputs: NDArray[Any],
    test_targets: NDArray[Any],
    training_inputs_then: NDArray[Any],
    training_targets_then: NDArray[Any],
    test_inputs_then: NDArray[Any],
    test_targets_then: NDArray[Any],
) -> dict[str, Any]:
    """Find the images that a dataset has kept, and compare their labels with those of then."""
    from dataclasses import asdict

    from digitflow.tasks.data.measures import label_agreement

    agreement = label_agreement(
        ((training_inputs_then, training_targets_then), (test_inputs_then, test_targets_then)),
        ((training_inputs, training_targets), (test_inputs, test_targets)),
    )
    return {"agreement": asdict(agreement)}
