import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from digitflow.tasks.nn.inference.predict import probabilities

OUTPUTS = arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6, allow_subnormal=False))


def test_softmax_of_logits():
    outputs = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(probabilities(outputs, "cross_entropy"), [[0.125, 0.25, 0.625]])


def test_logs_of_averaged_probabilities_come_back():
    averaged = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(probabilities(np.log(averaged), "cross_entropy"), averaged)


def test_large_logits_do_not_overflow():
    outputs = np.array([[1000.0, 999.0, -1000.0]], np.float32)
    np.testing.assert_allclose(
        probabilities(outputs, "cross_entropy"), [[0.73105858, 0.26894142, 0]], atol=1e-8
    )


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([0.7, 0.3, 0.0], [0.7, 0.3, 0.0]),  # one already
        ([0.9, 0.3, -0.2], [0.8, 0.2, 0.0]),  # 0.1 less each; what is below 0 is out
        ([0.4, 0.3, 0.0], [0.5, 0.4, 0.1]),  # 0.1 more each
        ([2.0, 0.1, 0.0], [1.0, 0.0, 0.0]),
        ([-0.2, -0.4, -0.6], [8 / 15, 5 / 15, 2 / 15]),  # 11/15 more each
        ([0.5, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]),
        ([1e9, 1e9 - 0.5, 0.0], [0.75, 0.25, 0.0]),
    ],
)
def test_squared_error_takes_the_nearest_distribution(outputs: list[float], expected: list[float]):
    found = probabilities(np.array([outputs]), "squared_error")
    np.testing.assert_allclose(found, [expected], atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@given(outputs=OUTPUTS)
def test_is_a_distribution_and_keeps_the_answer(loss: str, outputs: np.ndarray):
    found = probabilities(outputs, loss)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    answers = outputs.argmax(axis=1)
    np.testing.assert_array_equal(found[range(3), answers], found.max(axis=1))


def test_refuses_what_it_cannot_read():
    with pytest.raises(ValueError, match=r"found NaN or infinity: the model's training diverged"):
        probabilities(np.array([[0.1, np.nan]]), "cross_entropy")
    with pytest.raises(ValueError, match=r"cross_entropy or squared_error, found 'hinge'"):
        probabilities(np.array([[0.1, 0.2]]), "hinge")
