"""What a reader of a run's metrics is warned of."""

from typing import Any

import pytest

from digitflow.tasks.reporting.report import warnings


def metrics(accuracy: float, *supports: int) -> dict[str, Any]:
    rows = [
        {"class": name, "support": support, "training_images": 5}
        for name, support in zip("abc", supports, strict=False)
    ]
    return {"test_accuracy": accuracy, "test_samples": sum(supports), "per_class": rows}


@pytest.mark.parametrize("accuracy", [0.0, 0.6, 0.95])
def test_a_network_that_the_largest_class_would_replace_is_called_so(accuracy: float):
    (said,) = warnings(metrics(accuracy, 5, 95))
    assert said.startswith("The network has learnt nothing that counts")
    assert "the share of b, the largest class (95.0 %)" in said


@pytest.mark.parametrize(
    "found", [metrics(0.96, 5, 95), metrics(1.0, 10), {}, metrics(0.5, 4, 3, 3)]
)
def test_any_other_is_not(found: dict[str, Any]):
    assert warnings(found) == []
