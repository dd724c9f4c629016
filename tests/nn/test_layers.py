import numpy as np
import pytest

from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.randomness import Randomness
from tests.nn.gradients import assert_gradients_are_right, built


def batch(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_dense_worked_by_hand() -> None:
    layer = Dense(2)
    layer.build((3,), Randomness.from_seed(0), np.float64)
    layer.weights.value[...] = [[1, 2], [3, 4], [5, 6]]
    layer.biases.value[...] = [10, 20]
    y = layer.forward(np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]]), training=True)
    # Row 1: 1·1 - 1·5 + 10 = 6 and 1·2 - 1·6 + 20 = 16; row 2: 2 + 3 + 10 and 4 + 4 + 20.
    assert y.tolist() == [[6, 16], [15, 28]]
    dx = layer.backward(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert dx.tolist() == [[1, 3, 5], [2, 4, 6]]
    assert layer.weights.gradient.tolist() == [[1, 2], [0, 1], [-1, 0]]
    assert layer.biases.gradient.tolist() == [1, 1]


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (4, 3), (3, 40)])
@pytest.mark.parametrize("bias", [True, False])
def test_dense_gradients(n: int, inputs: int, outputs: int, bias: bool) -> None:
    layer = built(Dense(outputs, bias=bias), (inputs,))
    assert layer.output_shape((inputs,)) == (outputs,)
    assert_gradients_are_right(layer, batch(n, inputs))


def test_dense_uses_the_new_batch_size_when_it_changes() -> None:
    layer = built(Dense(3), (4,))
    for n in (5, 2, 5, 1):
        assert_gradients_are_right(layer, batch(n, 4, seed=n))


def test_dense_refuses_images() -> None:
    with pytest.raises(ValueError, match=r"Dense takes .*Flatten before it; found \(1, 2, 2\)"):
        Dense(3).build((1, 2, 2), Randomness.from_seed(0), np.float64)


def test_unknown_initialization_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'hee'; known are he, glorot, tutorial"):
        Dense(3, initialization="hee").build((2,), Randomness.from_seed(0), np.float64)


@pytest.mark.parametrize(
    ("name", "mean_square"), [("he", 2 / 400), ("glorot", 2 / 700), ("tutorial", 0.01 / 3)]
)
def test_initial_weights_have_the_variance_that_is_claimed(name: str, mean_square: float) -> None:
    layer = Dense(300, initialization=name)
    layer.build((400,), Randomness.from_seed(1), np.float64)
    assert np.mean(layer.weights.value**2) == pytest.approx(mean_square, rel=0.02)
    assert abs(layer.weights.value.mean()) < 0.001
    assert not layer.biases.value.any()


def test_relu_worked_by_hand() -> None:
    layer = built(ReLU(), (3,))
    assert layer.forward(np.array([[-1.0, 0.0, 2.0]]), training=True).tolist() == [[0, 0, 2]]
    assert layer.backward(np.array([[5.0, 5.0, 5.0]])).tolist() == [[0, 0, 5]]


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4, 4)])
def test_relu_gradients(shape: tuple[int, ...]) -> None:
    x = batch(*shape)
    x[np.abs(x) < 1e-3] = 0.5
    assert_gradients_are_right(built(ReLU(), shape[1:]), x)


@pytest.mark.parametrize("rate", [0.5, 0.2, 0.9, 1e-5, 0.99999, 1 - 1e-16])
def test_dropout_keeps_the_share_and_the_mean(rate: float) -> None:
    layer = built(Dropout(rate), (500,))
    y = layer.forward(np.ones((400, 500)), training=True)
    assert np.mean(y > 0) == pytest.approx(1 - rate, abs=0.005)
    # The rate is realised in 65,536ths and never whole; the scale undoes the realised rate.
    kept = max(1, 65536 - round(65536 * rate))
    assert set(np.unique(y)) <= {0.0, 65536 / kept}
    assert y.mean() == pytest.approx(1, abs=6 * np.sqrt((65536 - kept) / kept / y.size))
    # The gradient passes where the value did, scaled alike.
    assert np.array_equal(layer.backward(np.ones((400, 500))), y)


def test_dropout_draws_anew_each_time_and_repeats_with_the_seed() -> None:
    first, second = built(Dropout(0.5), (64,)), built(Dropout(0.5), (64,))
    ones = np.ones((8, 64))
    a = first.forward(ones, training=True).copy()
    assert np.array_equal(a, second.forward(ones, training=True))
    assert not np.array_equal(a, first.forward(ones, training=True))


def test_dropout_does_nothing_in_prediction_or_at_rate_zero() -> None:
    x = batch(3, 4)
    assert np.array_equal(built(Dropout(0.5), (4,)).forward(x.copy(), training=False), x)
    none = built(Dropout(0.0), (4,))
    assert np.array_equal(none.forward(x.copy(), training=True), x)
    assert np.array_equal(none.backward(x.copy()), x)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_dropout_refuses_rates_out_of_range(rate: float) -> None:
    with pytest.raises(ValueError, match=f"less than 1; found {rate}"):
        Dropout(rate)


def test_flatten_orders_features_by_height_channel_width_and_goes_back() -> None:
    layer = built(Flatten(), (2, 3, 4))
    x = np.arange(5 * 24.0).reshape(5, 2, 3, 4)
    lying = np.ascontiguousarray(x.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    y = layer.forward(lying, training=True)
    assert y.shape == (5, *layer.output_shape((2, 3, 4))) == (5, 24)
    assert np.array_equal(y[0], x[0].transpose(1, 0, 2).ravel())
    assert np.shares_memory(y, lying)
    assert np.array_equal(layer.backward(y), x)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_flatten_gives_the_shape_that_it_says_for_any_number_of_axes(
    shape: tuple[int, ...],
) -> None:
    layer = built(Flatten(), shape)
    x = batch(3, *shape)
    assert layer.forward(x, training=True).shape == (3, *layer.output_shape(shape))
    assert_gradients_are_right(layer, x)


@pytest.mark.parametrize(
    "layer", [Dense(3), ReLU(), Dropout(0.5), BatchNorm(), Flatten()], ids=repr
)
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_of_no_samples_is_refused(layer: Layer, training: bool) -> None:
    with pytest.raises(ValueError, match=r"at least one sample; found none"):
        built(layer, (4,)).forward(batch(0, 4), training=training)


@pytest.mark.parametrize("layer", [Conv(2), MaxPool(), GlobalAveragePool()], ids=repr)
def test_a_batch_of_no_images_is_refused(layer: Layer) -> None:
    with pytest.raises(ValueError, match=r"at least one sample; found none"):
        built(layer, (1, 4, 4)).forward(batch(0, 1, 4, 4), training=True)


@pytest.mark.parametrize("size", [0, -1])
def test_layers_of_no_size_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"Dense takes outputs ≥ 1; found {size}"):
        Dense(size)
    with pytest.raises(ValueError, match=f"MaxPool takes size ≥ 1; found {size}"):
        MaxPool(size)
    with pytest.raises(ValueError, match=f"Conv takes outputs.* outputs {size}"):
        Conv(size)
