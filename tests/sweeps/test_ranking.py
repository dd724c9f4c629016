"""What points reached, and in which order they come."""

import pandas as pd
import pytest

from digitflow.tasks.sweeps.grid import plan_points
from digitflow.tasks.sweeps.ranking import Outcome, rank, rows, scores_of

POINTS = plan_points("quick", {}, ["seed=1,2,3,4,5"])


def outcome(number: int, accuracy: float | None, loss: float = 0.1, status: str = "ran") -> Outcome:
    if accuracy is None:
        return Outcome(POINTS[number], error="diverged")
    scores = {"validation_accuracy": accuracy, "validation_loss": loss}
    return Outcome(POINTS[number], scores, 3, status)


def order(metric: str, *outcomes: Outcome) -> list[int]:
    return [each.point.parameters.seed for each in rank(outcomes, metric)]


def test_the_best_comes_first_and_what_failed_last():
    given = (outcome(0, None), outcome(1, 0.9), outcome(2, 0.95))
    assert order("validation_accuracy", *given) == [3, 2, 1]


def test_the_other_metric_decides_between_equals_and_then_the_order():
    given = (outcome(0, 0.9, 0.3), outcome(1, 0.9, 0.2), outcome(2, 0.8, 0.1), outcome(3, 0.9, 0.2))
    assert order("validation_accuracy", *given) == [2, 4, 1, 3]
    assert order("validation_loss", *given) == [3, 2, 4, 1]


def test_what_was_stopped_early_comes_after_what_was_not():
    given = (outcome(0, 0.99, status="stopped"), outcome(1, 0.9))
    assert order("validation_accuracy", *given) == [2, 1]


@pytest.mark.parametrize(("patience", "row"), [(0, 2), (3, 1)])
def test_scores_are_those_of_the_weights_that_are_kept(patience: int, row: int):
    history = pd.DataFrame(
        {
            "validation_loss": [0.5, 0.2, 0.3],
            "validation_accuracy": [0.7, 0.8, 0.9],
            "train_loss": [0.6, 0.4, 0.1],
            "train_accuracy": [0.5, 0.6, 0.7],
        }
    )
    assert scores_of(history, patience) == history.iloc[row].to_dict()


def test_rows_are_json_objects():
    listed = rows(rank([outcome(0, None), outcome(1, 0.9)], "validation_accuracy"))
    assert listed[0] == {
        "rank": 1,
        "seed": "2",
        "validation_accuracy": 0.9,
        "validation_loss": 0.1,
        "epochs": 3,
        "status": "ran",
    }
    assert (listed[1]["rank"], listed[1]["status"]) == (None, "failed")
