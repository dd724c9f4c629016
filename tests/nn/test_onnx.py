"""Networks as ONNX: the same logits in ONNX Runtime, for every layer and shape."""

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from digitflow.tasks.nn.feed import Feed
from digitflow.tasks.nn.inference import onnx_graph
from digitflow.tasks.nn.inference.model_file import LAYERS, join_members, to_arrays
from digitflow.tasks.nn.inference.onnx import to_onnx
from digitflow.tasks.nn.inference.predict import predict, probabilities
from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.presets import PRESETS
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import assemble

CONVOLUTIONS = [
    (kernel, stride, padding, shape)
    for kernel, stride, shape in itertools.product(
        (1, 2, 3, 5), (1, 2, 3), ((1, 7, 9), (1, 6, 5), (3, 5, 8))
    )
    for padding in {0, kernel // 2, kernel - 1}
]


def network_of(
    layers: list[Layer], shape: tuple[int, ...], dtype: str = "float32", seed: int = 0
) -> Network:
    """A network that has seen a few batches, so that its statistics are not 0 and 1."""
    network = Network(layers, shape, randomness=Randomness.from_seed(seed), dtype=dtype)
    rng = np.random.default_rng(seed)
    network.values += rng.normal(0, 0.02, network.values.shape).astype(dtype)
    feed = Feed(rng.random((24, *shape)), shape, dtype)
    for start in (0, 8, 16):
        network.forward(feed.load(slice(start, start + 8)), training=True)
    return network


def images_for(network: Network, n: int = 9) -> Any:
    shape = network.input_shape
    if shape[0] == 1:
        shape = shape[1:]
    if len(shape) == 1:
        shape = (1, *shape)
    return np.random.default_rng(1).integers(0, 256, (n, *shape), dtype=np.uint8)


def run(model: onnx.ModelProto, images: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    outputs: list[Any] = session.run(None, {"images": images})
    return outputs


def assert_same_logits(network: Network, images: Any = None) -> None:
    images = images_for(network) if images is None else images
    # Ours first: it may not change what is exported.
    expected = network.predict(images)
    found, _ = run(to_onnx(to_arrays(network), loss="cross_entropy"), images)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_every_stride_padding_and_shape_of_a_convolution(case: Any) -> None:
    kernel, stride, padding, shape = case
    layer = Conv(4, kernel, stride, padding, bias=kernel != 3)
    assert_same_logits(network_of([layer, ReLU(), Flatten(), Dense(3)], shape))


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 7, 9), (3, 6, 5)])
def test_pooling_drops_what_is_left_over(size: int, shape: tuple[int, ...]) -> None:
    assert_same_logits(network_of([MaxPool(size), Flatten(), Dense(3)], shape))


def test_the_order_in_which_flatten_reads_an_image() -> None:
    """Height, channels, width; not channels first, as in other libraries."""
    assert_same_logits(network_of([Conv(4), MaxPool(), Flatten(), Dense(3)], (2, 6, 10)))
    assert_same_logits(network_of([Flatten(), Dense(3)], (2, 3, 5)))
    assert_same_logits(network_of([Flatten(), Flatten(), Dense(3)], (35,)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bias", [True, False])
def test_normalization_of_features_and_of_channels(dtype: str, bias: bool) -> None:
    dense: list[Layer] = [Dense(7, bias), BatchNorm(epsilon=1e-3), ReLU(), Dropout(0.5), Dense(3)]
    assert_same_logits(network_of(dense, (35,), dtype))
    averaged: list[Layer] = [Conv(4, bias=bias), BatchNorm(), ReLU(), GlobalAveragePool(), Dense(3)]
    assert_same_logits(network_of(averaged, (1, 7, 5), dtype))


def test_a_network_may_end_with_any_layer() -> None:
    assert_same_logits(network_of([Conv(4), GlobalAveragePool()], (1, 5, 5)))
    assert_same_logits(network_of([Dense(4), Dropout(0.5)], (9,)))


@pytest.mark.parametrize("preset", [*PRESETS, "everything"])
@pytest.mark.parametrize("size", [(28, 28), (9, 7)])
def test_every_preset(preset: str, size: tuple[int, int]) -> None:
    everything = {
        "convolution_channels": (5, 6, 7),
        "hidden_sizes": (20, 10),
        "batch_normalization": True,
        "dropout": 0.5,
        "kernel_size": 5,
    }
    settings = TrainingSettings.model_validate({"everything": everything, **PRESETS}[preset])
    shape = (1, *size) if settings.convolution_channels else (size[0] * size[1],)
    network = network_of(assemble(settings, *size, 11), shape)
    images = np.random.default_rng(1).integers(0, 256, (5, *size), dtype=np.uint8)
    assert_same_logits(network, images)


def test_the_tutorials_model() -> None:
    rng = np.random.default_rng(0)
    weights = {
        "weights_1": 0.2 * rng.random((784, 100)) - 0.1,
        "weights_2": 0.2 * rng.random((100, 10)) - 0.1,
    }
    images = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    logits, shares = run(to_onnx(weights, loss="squared_error"), images)
    expected = predict(weights, images)
    assert np.abs(logits - expected).max() <= 1e-5
    assert np.abs(shares - probabilities(expected, "squared_error")).max() <= 1e-5


@pytest.mark.parametrize("n", [0, 1, 33])
@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_the_batch_is_free_and_probabilities_are_ours(n: int, loss: str, size: float) -> None:
    network = network_of([Conv(3), Flatten(), Dense(4)], (1, 5, 6))
    network.layers[-1].parameters["weights"].value[...] *= size
    logits, shares = run(to_onnx(to_arrays(network), loss=loss), images_for(network, n))
    assert logits.shape == shares.shape == (n, 4)
    assert np.abs(shares - probabilities(logits, loss)).max(initial=0) <= 1e-5


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.parametrize("count", [1, 3])
def test_an_ensemble_is_one_model(loss: str, size: float, count: int) -> None:
    networks = [
        network_of([Conv(3), BatchNorm(), ReLU(), Flatten(), Dense(4)], (1, 5, 6), seed=seed)
        for seed in range(count)
    ]
    for network in networks:
        network.layers[-1].parameters["weights"].value[...] *= size
    weights = join_members([to_arrays(network) for network in networks], loss)
    images = images_for(networks[0])
    logits, shares = run(to_onnx(weights, loss=loss), images)
    expected = predict(weights, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-6, atol=1e-5)
    assert np.abs(shares - probabilities(expected, loss)).max() <= 1e-5


def test_a_loss_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="cross_entropy or squared_error, found 'hinge'"):
        to_onnx(to_arrays(network_of([Dense(4)], (30,))), loss="hinge")


def test_a_dense_network_takes_any_height_and_width_and_no_other_number_of_pixels() -> None:
    network = network_of([Dense(4)], (30,))
    model = to_onnx(to_arrays(network), loss="cross_entropy")
    images = images_for(network)
    for shape in ((5, 6), (3, 10)):
        found, _ = run(model, images.reshape(-1, *shape))
        assert np.abs(found - network.predict(images)).max() <= 1e-5
    onnxruntime.set_default_logger_severity(4)
    with pytest.raises(Exception, match="GEMM: Dimension mismatch"):
        run(model, images.reshape(-1, 5, 3))


def test_shapes_types_and_names_are_declared() -> None:
    network = network_of([Conv(3), Flatten(), Dense(4)], (1, 5, 6))
    model = to_onnx(
        to_arrays(network),
        loss="cross_entropy",
        producer_version="1.2",
        version=7,
        about={"class_names": '["ä"]'},
    )
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert [(each.name, each.type, each.shape) for each in session.get_inputs()] == [
        ("images", "tensor(uint8)", ["batch", 5, 6])
    ]
    assert [(each.name, each.type, each.shape) for each in session.get_outputs()] == [
        ("logits", "tensor(float)", ["batch", 4]),
        ("probabilities", "tensor(float)", ["batch", 4]),
    ]
    assert session.get_modelmeta().custom_metadata_map == {"class_names": '["ä"]'}
    assert (model.producer_name, model.producer_version, model.model_version) == (
        "digitflow",
        "1.2",
        7,
    )
    names = [each.name for each in model.graph.initializer]
    assert "0_Conv.kernels" in names


def test_the_same_model_gives_the_same_bytes() -> None:
    arrays = to_arrays(network_of([Dense(4), BatchNorm(), ReLU(), Dense(3)], (30,)))
    about = {"a": "1", "b": "2"}
    first, second = (
        to_onnx(arrays, loss="cross_entropy", about=about).SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == second


def test_every_layer_that_can_be_stored_can_be_exported() -> None:
    assert set(onnx_graph.ADDERS) == set(LAYERS.values())


def test_a_layer_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(onnx_graph.ADDERS, ReLU)
    arrays = to_arrays(network_of([Dense(4), ReLU()], (30,)))
    with pytest.raises(ValueError, match=r"layer 1_ReLU cannot be written as ONNX; those that"):
        to_onnx(arrays, loss="cross_entropy")
