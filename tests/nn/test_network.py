import io
import json
from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.inference.model_file import ARCHITECTURE, to_arrays, to_network
from digitflow.tasks.nn.inference.predict import predict
from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.losses import CrossEntropy
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness
from tests.nn.gradients import central_difference, relative_error


def plain() -> tuple[list[Layer], tuple[int, ...]]:
    return [Dense(7), ReLU(), Dense(5, bias=False), BatchNorm(), ReLU(), Dense(3)], (64,)


def convolutional() -> tuple[list[Layer], tuple[int, ...]]:
    layers = [Conv(4), MaxPool(), BatchNorm(), ReLU(), Conv(3), MaxPool(), ReLU(), Flatten()]
    return [*layers, Dense(6), ReLU(), Dropout(0.5), Dense(3)], (1, 8, 8)


def averaging() -> tuple[list[Layer], tuple[int, ...]]:
    return [Conv(4, stride=2), ReLU(), Conv(3, bias=False), GlobalAveragePool()], (1, 8, 8)


KINDS = [plain, convolutional, averaging]


def make(kind: Any, dtype: str = "float64", seed: int = 0) -> Network:
    layers, shape = kind()
    return Network(layers, shape, randomness=Randomness.from_seed(seed), dtype=dtype)


def images(n: int = 6) -> Any:
    return np.random.default_rng(4).integers(0, 256, (n, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("kind", [plain, averaging])
def test_the_gradient_of_the_whole_is_right(kind: Any) -> None:
    network, labels = make(kind), np.array([0, 1, 2, 0, 1, 2])
    loss = CrossEntropy(3, dtype="float64")
    x = images().reshape(6, *network.input_shape) / 255

    def mean() -> float:
        outputs = network.forward(x.copy(), training=True)
        return float(loss.forward(outputs, labels).sum()) / 6

    mean()
    network.backward(loss.backward(6))
    found = network.gradients.copy()
    assert relative_error(found, central_difference(mean, network.values)) <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_views_of_one_vector_with_weights_first(kind: Any) -> None:
    network = make(kind)
    parameters = [p for layer in network.layers for p in layer.parameters.values()]
    assert sum(p.value.size for p in parameters) == network.values.size
    assert all(np.shares_memory(p.value, network.values) for p in parameters)
    assert all(np.shares_memory(p.gradient, network.gradients) for p in parameters)
    assert sum(p.value.size for p in parameters if p.decay) == network.decayed
    network.values[: network.decayed] = 7
    assert all((p.value == 7).all() == p.decay for p in parameters)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stored_network_predicts_the_same_bytes(kind: Any, dtype: str) -> None:
    network = make(kind, dtype)
    x = images().reshape(6, *network.input_shape).astype(dtype)
    network.forward(x, training=True)
    expected = network.predict(images())
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **to_arrays(network))
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        arrays = dict(stored)
    assert predict(arrays, images()).tobytes() == expected.tobytes()
    assert to_network(arrays).dtype == dtype


def test_stored_arrays_are_copies() -> None:
    network = make(plain)
    arrays = to_arrays(network)
    before = arrays["0_Dense.weights"].copy()
    network.values[...] = 0
    assert np.array_equal(arrays["0_Dense.weights"], before)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_do_not_depend_on_how_many_images_are_asked_about(kind: Any) -> None:
    network = make(kind)
    many = images(2100)
    outputs = network.predict(many)
    assert outputs.shape == (2100, 3)
    for index in (0, 31, 32, 1023, 1024, 2099):
        alone = network.predict(many[index : index + 1])
        np.testing.assert_allclose(alone[0], outputs[index], rtol=1e-10, atol=1e-12)


def test_bytes_and_fractions_are_the_same_images() -> None:
    network = make(plain)
    np.testing.assert_allclose(
        network.predict(images()), network.predict(images() / 255), rtol=1e-12
    )


def test_no_images_give_no_outputs() -> None:
    assert make(plain).predict(images(0)).shape == (0, 3)


def test_the_tutorials_weights_predict_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    weights = {"weights_1": rng.standard_normal((64, 5)), "weights_2": rng.standard_normal((5, 3))}
    flat = images().reshape(6, 64) / 255
    expected = np.maximum(flat @ weights["weights_1"], 0) @ weights["weights_2"]
    np.testing.assert_allclose(predict(weights, images()), expected, rtol=1e-12)
    np.testing.assert_allclose(predict(weights, flat), expected, rtol=1e-12)
    # Many images go through some at a time.
    monkeypatch.setattr("digitflow.tasks.nn.tutorial._PREDICTION_PASS", 3)
    np.testing.assert_allclose(predict(weights, images()), expected, rtol=1e-12)


def test_the_seed_decides_the_weights() -> None:
    first, same, other = (make(plain, seed=seed) for seed in (0, 0, 1))
    assert first.values.tobytes() == same.values.tobytes()
    assert not np.array_equal(first.values, other.values)


def test_a_layer_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"Layer 1 does not fit: Dense takes .* \(4, 8, 8\)"):
        Network([Conv(4), Dense(3)], (1, 8, 8), randomness=Randomness.from_seed(0))


def test_files_that_hold_no_network_are_refused() -> None:
    arrays = to_arrays(make(plain))
    without = {name: array for name, array in arrays.items() if name != ARCHITECTURE}
    with pytest.raises(ValueError, match="under 'architecture'; found only 0_Dense.biases"):
        to_network(without)
    described = json.loads(arrays[ARCHITECTURE].tobytes())

    def changed(**changes: Any) -> dict[str, Any]:
        text = json.dumps({**described, **changes}).encode()
        return {**arrays, ARCHITECTURE: np.frombuffer(text, np.uint8)}

    with pytest.raises(ValueError, match="reads model format 1; found 99"):
        to_network(changed(format=99))
    with pytest.raises(ValueError, match="Unknown layer type 'Magic'; known are Dense"):
        to_network(changed(layers=[{"type": "Magic"}]))
    with pytest.raises(ValueError, match="found 0_Dense.biases"):
        to_network(changed(layers=described["layers"][:1]))
    with pytest.raises(ValueError, match=r"0_Dense.biases has shape \(7,\); found \(1,\)"):
        to_network({**arrays, "0_Dense.biases": np.zeros(1)})


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one layer; found none"):
        Network([], (4,), randomness=Randomness.from_seed(0))


def test_a_layer_of_another_network_is_refused() -> None:
    shared = Dense(4)
    randomness = Randomness.from_seed(0)
    Network([shared], (4,), randomness=randomness)
    with pytest.raises(ValueError, match="Layer 1 is part of a network already"):
        Network([ReLU(), shared], (4,), randomness=randomness)


def test_a_layer_given_twice_is_refused() -> None:
    twice = Dense(4)
    with pytest.raises(ValueError, match="Layer 2 is part of a network already, perhaps of this"):
        Network([twice, ReLU(), twice], (4,), randomness=Randomness.from_seed(0))


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint16", "bool", "complex64"])
def test_pixels_of_unknown_scale_are_refused(dtype: str) -> None:
    with pytest.raises(ValueError, match=f"uint8 from 0 to 255 .* found {dtype}"):
        make(plain).predict(images().astype(dtype))
