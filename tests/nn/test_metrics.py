import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from digitflow.tasks.nn.metrics import (
    classification_metrics,
    confidence_metrics,
    confusion_matrix,
    per_class_report,
)

ANIMALS = ["ant", "bee", "cat"]

# Three classes by hand:          predicted  ant bee cat
TRUE = np.array(
    [
        0,
        0,
        0,
        0,  # ant            3   1   0
        1,
        1,  # bee            0   2   0
        2,
        2,
        2,
        2,
    ],
    dtype=np.uint8,
)  # cat  1   1   2
PREDICTED = np.array([0, 0, 0, 1, 1, 1, 0, 1, 2, 2])
COUNTS = [[3, 1, 0], [0, 2, 0], [1, 1, 2]]


def test_counts_worked_by_hand():
    confusion = confusion_matrix(TRUE, PREDICTED, ANIMALS)
    assert confusion.to_numpy().tolist() == COUNTS
    assert list(confusion.index) == list(confusion.columns) == ANIMALS
    assert (confusion.index.name, confusion.columns.name) == ("true", "predicted")
    assert confusion.to_numpy().dtype == np.int64
    assert confusion.loc["cat", "ant"] == 1  # a cat taken for an ant, not the other way round
    assert confusion.loc["ant", "cat"] == 0


def test_scores_worked_by_hand():
    report = per_class_report(confusion_matrix(TRUE, PREDICTED, ANIMALS))
    assert list(report.columns) == ["precision", "recall", "f1", "support"]
    assert report.index.name == "class"
    np.testing.assert_allclose(report["precision"], [3 / 4, 2 / 4, 2 / 2])
    np.testing.assert_allclose(report["recall"], [3 / 4, 2 / 2, 2 / 4])
    np.testing.assert_allclose(report["f1"], [6 / 8, 4 / 6, 4 / 6])
    assert report["support"].tolist() == [4, 2, 4]


def test_undefined_scores_are_zero_and_every_class_is_present():
    # "bee" occurs but is never predicted; "cat" does neither.
    confusion = confusion_matrix(np.array([0, 1]), np.array([0, 0]), ANIMALS)
    assert confusion.to_numpy().tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    report = per_class_report(confusion)
    assert report.loc["bee"].tolist() == [0.0, 0.0, 0.0, 1]
    assert report.loc["cat"].tolist() == [0.0, 0.0, 0.0, 0]


def test_62_classes_in_uint8_do_not_wrap_around():
    names = [f"class {i}" for i in range(62)]
    labels = np.arange(62, dtype=np.uint8)
    assert confusion_matrix(labels, labels[::-1].copy(), names).to_numpy().tolist() == (
        np.eye(62, dtype=int)[:, ::-1].tolist()
    )


@st.composite
def labelled_predictions(draw):
    classes = draw(st.integers(1, 12))
    ids = hnp.arrays(
        draw(st.sampled_from([np.uint8, np.int32, np.int64])),
        draw(st.integers(0, 60)),
        elements=st.integers(0, classes - 1),
    )
    labels = draw(ids)
    predicted = draw(hnp.arrays(np.int64, labels.shape, elements=st.integers(0, classes - 1)))
    return labels, predicted, [f"c{i}" for i in range(classes)]


@given(labelled_predictions())
def test_agrees_with_a_plain_loop(case):
    labels, predicted, names = case
    confusion = confusion_matrix(labels, predicted, names)
    report = per_class_report(confusion)

    counts = {(t, p): 0 for t in names for p in names}
    for t, p in zip(labels, predicted, strict=True):
        counts[names[t], names[p]] += 1
    for t in names:
        for p in names:
            assert confusion.loc[t, p] == counts[t, p]

    for i, name in enumerate(names):
        hits = sum(1 for t, p in zip(labels, predicted, strict=True) if t == p == i)
        said = sum(1 for p in predicted if p == i)
        was = sum(1 for t in labels if t == i)
        precision = hits / said if said else 0.0
        recall = hits / was if was else 0.0
        harmonic = 2 * precision * recall / (precision + recall) if hits else 0.0
        row = report.loc[name]
        assert row["support"] == was
        assert math.isclose(row["precision"], precision)
        assert math.isclose(row["recall"], recall)
        assert math.isclose(row["f1"], harmonic, abs_tol=1e-15)


@given(labelled_predictions())
def test_row_sums_are_the_support_and_all_sums_the_samples(case):
    labels, predicted, names = case
    confusion = confusion_matrix(labels, predicted, names)
    assert (confusion.sum(axis=1) == per_class_report(confusion)["support"]).all()
    assert confusion.sum(axis=1).tolist() == np.bincount(labels, minlength=len(names)).tolist()
    assert confusion.sum(axis=0).tolist() == np.bincount(predicted, minlength=len(names)).tolist()
    assert int(confusion.to_numpy().sum()) == labels.size


def outputs_for(predicted, classes=3):
    return np.eye(classes, dtype=np.float32)[predicted]


def test_evaluate_worked_by_hand():
    losses = np.arange(10, dtype=np.float32) / 10
    metrics, confusion = classification_metrics(outputs_for(PREDICTED), losses, TRUE, ANIMALS)
    assert confusion.to_numpy().tolist() == COUNTS
    assert metrics["test_accuracy"] == 0.7
    assert metrics["test_loss"] == pytest.approx(0.45)
    assert metrics["test_samples"] == 10
    assert metrics["errors"] == 3
    assert metrics["macro_f1"] == pytest.approx((3 / 4 + 2 / 3 + 2 / 3) / 3)
    assert metrics["per_class"][2] == {
        "class": "cat",
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 4,
    }
    assert [row["class"] for row in metrics["per_class"]] == ANIMALS


def test_evaluate_gives_json_without_loss():
    metrics, _ = classification_metrics(outputs_for(PREDICTED), np.ones(10), TRUE, ANIMALS)
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert type(metrics["errors"]) is int
    assert type(metrics["test_loss"]) is float


def test_macro_f1_leaves_out_a_class_that_neither_occurs_nor_is_predicted():
    labels = np.array([0, 1])
    metrics, _ = classification_metrics(outputs_for(labels), np.zeros(2), labels, ANIMALS)
    assert metrics["macro_f1"] == 1.0
    # Predicted wrongly, it does count: F1 0 for "cat", 2/3 for "ant", 1 for "bee".
    metrics, _ = classification_metrics(
        outputs_for([0, 2, 1]), np.zeros(3), np.array([0, 0, 1]), ANIMALS
    )
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_equal_outputs_count_as_the_first_class():
    _, confusion = classification_metrics(np.zeros((2, 3)), np.zeros(2), np.array([0, 2]), ANIMALS)
    assert confusion["ant"].tolist() == [1, 0, 1]


def test_the_mean_loss_of_float32_is_taken_in_float64():
    losses = np.full(100_000, 0.1, dtype=np.float32)
    labels = np.zeros(100_000, dtype=np.uint8)
    metrics, _ = classification_metrics(
        np.zeros((100_000, 3), dtype=np.float32), losses, labels, ANIMALS
    )
    assert metrics["test_loss"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


GOOD = {
    "outputs": np.zeros((2, 3)),
    "losses": np.zeros(2),
    "labels": np.array([0, 1]),
    "class_names": ANIMALS,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": np.zeros((2, 4))}, r"outputs must have shape \(samples, 3\).*\(2, 4\)"),
        ({"outputs": np.zeros(2)}, r"outputs must have shape \(samples, 3\).*\(2,\)"),
        ({"losses": np.zeros(3)}, r"losses must have shape \(2,\).*found \(3,\)"),
        ({"losses": np.zeros((2, 1))}, r"losses must have shape \(2,\).*found \(2, 1\)"),
        ({"labels": np.array([0])}, r"labels must have shape \(2,\).*found \(1,\)"),
        ({"labels": np.array([0, 3])}, r"labels must lie in 0 … 2.*found 3 at index 1"),
        ({"labels": np.array([-1, 0])}, r"labels must lie in 0 … 2.*found -1 at index 0"),
        ({"labels": np.array([0.0, 1.0])}, r"labels must be .* integer.*float64"),
        ({"outputs": np.array([[0, 0, 0], [0, np.nan, 0]])}, "outputs must be finite.*sample 1"),
        ({"losses": np.array([np.inf, 0])}, "losses must be finite: found inf for sample 0"),
        ({"outputs": np.zeros((2, 3), dtype=int)}, "outputs must be floating-point.*int64"),
        (
            {"outputs": np.zeros((0, 3)), "losses": np.zeros(0), "labels": np.zeros(0, dtype=int)},
            "test set is empty",
        ),
        ({"class_names": ["ant", "bee", "ant"]}, "must be unique.*ant"),
        ({"class_names": []}, "class_names is empty"),
    ],
)
def test_evaluate_refuses_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(**(GOOD | change))


def test_confusion_matrix_refuses_different_lengths():
    with pytest.raises(ValueError, match="found 2 labels and 3 predictions"):
        confusion_matrix(np.array([0, 1]), np.array([0, 1, 2]), ANIMALS)


def test_report_refuses_a_matrix_whose_sides_differ():
    lopsided = pd.DataFrame([[1, 2], [3, 4]], index=["a", "b"], columns=["a", "c"])
    with pytest.raises(ValueError, match=r"rows \['a', 'b'\] and columns \['a', 'c'\]"):
        per_class_report(lopsided)


def test_confidence_worked_by_hand():
    # Bins of a fifteenth: 0.50 and 0.52 share one, 0.95 and 1.00 another.
    confidence = np.array([0.50, 0.52, 0.95, 1.00])
    right = np.array([True, False, True, True])
    unsure = np.array([True, True, False, False])
    assert confidence_metrics(confidence, unsure, right) == {
        "mean_confidence": pytest.approx(2.97 / 4),
        # (|1.02 - 1| + |1.95 - 2|) / 4
        "calibration_error": pytest.approx(0.07 / 4),
        "unsure": 2,
        "unsure_errors": 1,
    }


def test_who_is_as_often_right_as_it_says_has_no_calibration_error():
    confidence = np.repeat([0.25, 0.75], 4)
    right = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    found = confidence_metrics(confidence, np.zeros(8, bool), right)
    assert found["calibration_error"] == pytest.approx(0)
    assert confidence_metrics(confidence, ~right, ~right)["calibration_error"] == pytest.approx(0.5)
