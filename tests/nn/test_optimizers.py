from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.training import optimizers
from digitflow.tasks.nn.training.optimizers import SGD, Adam, AdamW, Optimizer, clip_gradient


def run(optimizer: Optimizer, gradients: list[float], rate: float = 0.1, start: float = 1.0) -> Any:
    """Positions of one weight that decays and one that does not, after each gradient."""
    optimizer.prepare(2, 1, np.float64)
    values, positions = np.array([start, start]), []
    for gradient in gradients:
        optimizer.step(values, np.array([gradient, gradient]), rate)
        positions.append(values.copy())
    return np.array(positions)


def test_plain_sgd_worked_by_hand() -> None:
    np.testing.assert_allclose(run(SGD(), [2.0, -1.0])[:, 0], [0.8, 0.9])


def test_momentum_worked_by_hand() -> None:
    # v: 2, then 0.5·2 - 1 = 0.
    np.testing.assert_allclose(run(SGD(0.5), [2.0, -1.0])[:, 0], [0.8, 0.8])


def test_nesterov_worked_by_hand() -> None:
    # Steps g + μ v: 2 + 0.5·2 = 3, then v = 0 and -1 + 0 = -1.
    np.testing.assert_allclose(run(SGD(0.5, nesterov=True), [2.0, -1.0])[:, 0], [0.7, 0.8])


def test_weight_decay_acts_on_weights_only() -> None:
    positions = run(SGD(weight_decay=0.5), [2.0])
    # 1 - 0.1·(2 + 0.5·1) = 0.75 for the weight, 1 - 0.1·2 = 0.8 for the bias.
    np.testing.assert_allclose(positions, [[0.75, 0.8]])


def test_adam_worked_by_hand() -> None:
    # The first step has length η whatever the gradient; the second:
    # m = 0.9·0.2 - 0.1 = 0.08, v = 0.999·0.004 + 0.001 = 0.004996,
    # m̂ = 0.08/0.19, v̂ = 0.004996/0.001999, step 0.1·0.421053/1.580902 = 0.0266337.
    positions = run(Adam(), [2.0, -1.0])[:, 0]
    np.testing.assert_allclose(positions, [0.9, 0.8733663], atol=2e-7)


def test_adam_and_adamw_decay_differently() -> None:
    # In Adam the decay is part of a gradient whose length does not matter in the first step.
    np.testing.assert_allclose(run(Adam(weight_decay=0.5), [2.0])[0], [0.9, 0.9], atol=1e-8)
    # In AdamW the weight shrinks by 0.1·0.5 = 5 % first.
    np.testing.assert_allclose(run(AdamW(weight_decay=0.5), [2.0])[0], [0.85, 0.9], atol=1e-8)


MAKERS = [
    lambda: SGD(weight_decay=0.1),
    lambda: SGD(0.9, nesterov=True, weight_decay=0.1),
    lambda: Adam(weight_decay=0.1),
    lambda: AdamW(weight_decay=0.1),
]


@pytest.mark.parametrize("make", MAKERS)
def test_pieces_make_no_difference(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(23), rng.standard_normal((4, 23))
    results = []
    for size in (512 * 1024, 160):
        monkeypatch.setattr(optimizers, "PIECE_BYTES", size)
        optimizer, values = make(), start.copy()
        optimizer.prepare(23, 13, np.float64)
        for gradient in gradients:
            optimizer.step(values, gradient.copy(), 0.1)
        results.append(values)
    assert np.array_equal(*results)


@pytest.mark.parametrize("make", MAKERS)
def test_steps_reach_the_bottom_of_a_bowl(make: Any) -> None:
    optimizer, values = make(), np.array([3.0, -2.0])
    optimizer.prepare(2, 0, np.float64)
    for _ in range(400):
        optimizer.step(values, values.copy(), 0.05)
    assert np.abs(values).max() < 0.02


def test_clipping_keeps_the_direction_and_reports_the_norm_before() -> None:
    gradients = np.array([3.0, 4.0])
    assert clip_gradient(gradients, 10) == 5
    assert gradients.tolist() == [3, 4]
    assert clip_gradient(gradients, 1) == 5
    np.testing.assert_allclose(gradients, [0.6, 0.8])
