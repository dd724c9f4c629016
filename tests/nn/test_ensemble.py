"""Several networks as one model."""

import json
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.inference.model_file import ENSEMBLE, join_members, kind_of, split_ensemble
from digitflow.tasks.nn.inference.predict import combine_outputs, predict, probabilities
from tests.nn.test_trainer import SMALL, Data, data, train

__all__ = ["data"]  # a fixture


@pytest.fixture(scope="module")
def outputs() -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, 5, (40, 3)).astype(np.float32) for _ in range(4)]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_probabilities_are_the_mean_of_the_members(outputs: list[Any], loss: str) -> None:
    combined = combine_outputs(outputs, loss)
    expected = np.mean([probabilities(each, loss) for each in outputs], axis=0)
    np.testing.assert_allclose(probabilities(combined, loss), expected, atol=1e-6)
    assert (combined.argmax(axis=1) == expected.argmax(axis=1)).all()
    assert combined.dtype == np.float32


def test_members_that_agree_change_nothing(outputs: list[Any]) -> None:
    combined = combine_outputs([outputs[0]] * 3, "cross_entropy")
    np.testing.assert_allclose(
        probabilities(combined, "cross_entropy"),
        probabilities(outputs[0], "cross_entropy"),
        atol=1e-6,
    )


def test_certainty_beyond_what_a_float_can_say_stays_finite() -> None:
    sure = np.array([[2000.0, 0.0], [0.0, 2000.0]])
    combined = combine_outputs([sure, sure], "cross_entropy")
    np.testing.assert_array_equal(combined, [[0, -2000], [-2000, 0]])


def test_predicts_what_its_members_predict_together(data: Data) -> None:
    results = [train(data, {**SMALL, "seed": seed}) for seed in (1, 2, 3)]
    model = join_members([each.weights for each in results], "cross_entropy")
    assert kind_of(model) == "ensemble"
    assert kind_of(results[0].weights) == "network"
    np.testing.assert_array_equal(
        predict(model, data[2]),
        combine_outputs([each.outputs for each in results], "cross_entropy"),
    )
    members, loss = split_ensemble(model)
    assert loss == "cross_entropy"
    for member, result in zip(members, results, strict=True):
        assert list(member) == list(result.weights)


def described(**changes: Any) -> dict[str, Any]:
    text = json.dumps({"format": 1, "members": 2, "loss": "cross_entropy", **changes})
    arrays = {"member_0/x": np.zeros(1), "member_1/x": np.zeros(1)}
    return {ENSEMBLE: np.frombuffer(text.encode(), np.uint8), **arrays}


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({ENSEMBLE: np.frombuffer(b"[", np.uint8)}, "describes it as JSON"),
        ({ENSEMBLE: np.frombuffer(b"[]", np.uint8)}, "describes it as JSON"),
        (described(format=2), "reads ensemble format 1; found 2"),
        (described(members=3), "should have 3 members; not all"),
        (described(members=10**12), "not all of them are in the file"),
        (described(members=0), "should have 0 members"),
        (described(members=-1), "should have -1 members"),
        (described(members="x"), "describes it as JSON"),
        ({ENSEMBLE: described()[ENSEMBLE], "member_0/x": np.zeros(1)}, "should have 2 members"),
    ],
    ids=str,
)
def test_a_file_that_is_no_ensemble_is_refused(weights: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        split_ensemble(weights)
