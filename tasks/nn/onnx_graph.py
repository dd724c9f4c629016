"""A trained network as an ONNX model, for runtimes that know nothing of this project.

The graph takes the bytes of the images and scales them itself, so that whoever deploys it cannot
scale them otherwise than training did. Everything in it is float32, the type that every runtime
computes with; a network trained in float64 loses what lies beyond the seventh digit.

Operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasks.nn.architecture import from_arrays
from tasks.nn.convolution import Conv
from tasks.nn.layer import Layer
from tasks.nn.layers import Dense, Dropout, Flatten, ReLU
from tasks.nn.network import Network
from tasks.nn.normalization import BatchNorm
from tasks.nn.pooling import GlobalAveragePool, MaxPool
from tasks.nn.randomness import Randomness

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

INPUT = "images"
LOGITS = "logits"
PROBABILITIES = "probabilities"

# Both of 2022: runtimes refuse what is newer than they are, and no operator here needs more.
OPSET = 17
IR_VERSION = 8


def to_onnx(
    weights: Mapping[str, NDArray[Any]],
    *,
    probabilities: bool,
    producer_version: str = "",
    version: int = 0,
    about: Mapping[str, str] | None = None,
) -> ModelProto:
    """Return a trained network as a checked ONNX model.

    Its input is ``images``, uint8 from 0 to 255, of shape (batch, height, width), or
    (batch, channels, height, width) where a network has several channels. A network that begins
    with a dense layer knows only how many pixels there are, so its height and width are free.
    Its output is ``logits``, float32 of shape (batch, classes).

    Parameters
    ----------
    weights : mapping of NDArray
        A `TrainingResult`'s, of the tutorial's network or any other.
    probabilities : bool
        Add the output ``probabilities``, the softmax of the logits: right for a network that
        was trained with cross-entropy.
    producer_version : str
        Version of digitflow.
    version : int
        Of the model.
    about : mapping of str, optional
        Metadata for whoever opens the file.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    ValueError
        If the weights describe no network, or it has a layer that is not known here.
    """
    from onnx import TensorProto, checker, helper

    network = _network(dict(weights))
    graph = _Graph(network.input_shape)
    for index, layer in enumerate(network.layers):
        graph.add_layer(f"{index}_{type(layer).__name__}", layer)
    graph.nodes[-1].output[0] = LOGITS

    (classes,) = network.output_shape
    outputs = [LOGITS]
    if probabilities:
        graph.nodes.append(
            helper.make_node("Softmax", [LOGITS], [PROBABILITIES], name="softmax", axis=1)
        )
        outputs.append(PROBABILITIES)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "digitflow",
            [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, _input_shape(network))],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes])
                for name in outputs
            ],
            graph.arrays,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="digitflow",
        producer_version=producer_version,
        model_version=version,
    )
    helper.set_model_props(model, dict(about or {}))
    checker.check_model(model, full_check=True)
    return model


def _network(weights: dict[str, NDArray[Any]]) -> Network:
    """Return the network that the weights belong to; the tutorial's are kept without its layers."""
    if weights.keys() != {"weights_1", "weights_2"}:
        return from_arrays(weights)
    pixels, hidden_size = weights["weights_1"].shape
    classes = weights["weights_2"].shape[1]
    layers = [Dense(hidden_size, bias=False), ReLU(), Dense(classes, bias=False)]
    network = Network(layers, (pixels,), randomness=Randomness.from_seed(0), dtype=np.float64)
    first, second = network.state()
    network.restore({first: weights["weights_1"], second: weights["weights_2"]})
    return network


def _input_shape(network: Network) -> list[str | int]:
    """Return the shape of the images; what the network does not fix is named instead."""
    shape = network.input_shape
    if len(shape) == 1:
        return ["batch", "height", "width"]
    return ["batch", *(shape[1:] if shape[0] == 1 else shape)]


class _Graph:
    """The nodes of a graph, each of which takes what the one before it gives."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        from onnx import TensorProto

        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []
        self._last, self._shape = INPUT, shape
        self._add("to_float", "Cast", to=TensorProto.FLOAT)
        self._add("scale", "Mul", factor=np.float32(1 / 255))
        if len(shape) == 1:
            self._add("pixels", "Flatten", axis=1)
        elif shape[0] == 1:
            self._add("channel", "Unsqueeze", axes=np.array([1]))

    def add_layer(self, name: str, layer: Layer) -> None:
        """Add what computes `layer` in prediction.

        Raises
        ------
        ValueError
            If it is of a kind that is not known here.
        """
        if type(layer) not in _LAYERS:
            known = ", ".join(kind.__name__ for kind in _LAYERS)
            message = f"layer {name} cannot be written as ONNX; those that can are {known}"
            raise ValueError(message)
        _LAYERS[type(layer)](self, name, layer)
        self._shape = layer.output_shape(self._shape)

    def dense(self, name: str, layer: Dense) -> None:
        """y = x W + b."""
        if layer.bias:
            self._add(name, "Gemm", weights=layer.weights.value, biases=layer.biases.value)
        else:
            self._add(name, "MatMul", weights=layer.weights.value)

    def relu(self, name: str, _layer: ReLU) -> None:
        """Max(x, 0)."""
        self._add(name, "Relu")

    def dropout(self, _name: str, _layer: Dropout) -> None:
        """Nothing: prediction leaves everything as it is."""

    def flatten(self, name: str, _layer: Flatten) -> None:
        """Our features come in the order (height, channels, width), ONNX's in that of the axes."""
        if len(self._shape) == 3:
            self._add(f"{name}.order", "Transpose", perm=[0, 2, 1, 3])
        self._add(name, "Flatten", axis=1)

    def convolution(self, name: str, layer: Conv) -> None:
        """Cross-correlation; our kernels are (outputs, kernel, kernel, inputs)."""
        kernels = layer.kernels.value.transpose(0, 3, 1, 2)
        biases = {"biases": layer.biases.value} if layer.bias else {}
        self._add(
            name,
            "Conv",
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.padding] * 4,
            kernels=kernels,
            **biases,
        )

    def max_pool(self, name: str, layer: MaxPool) -> None:
        """Of squares side by side; rows and columns left over are dropped."""
        self._add(name, "MaxPool", kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)

    def average_pool(self, name: str, _layer: GlobalAveragePool) -> None:
        """ONNX keeps height and width, as 1."""
        self._add(f"{name}.mean", "GlobalAveragePool")
        self._add(name, "Flatten", axis=1)

    def normalization(self, name: str, layer: BatchNorm) -> None:
        """With the running statistics."""
        self._add(
            name,
            "BatchNormalization",
            epsilon=layer.epsilon,
            scale=layer.scale.value,
            shift=layer.shift.value,
            running_mean=layer.running_mean,
            running_variance=layer.running_variance,
        )

    def _add(self, name: str, operator: str, **arguments: Any) -> None:
        """Add a node. Arrays among the arguments are its further inputs, in order."""
        from onnx import helper, numpy_helper

        inputs = [self._last]
        attributes = {}
        for argument, value in arguments.items():
            if not isinstance(value, np.ndarray | np.generic):
                attributes[argument] = value
                continue
            array = np.asarray(value)
            if array.dtype.kind == "f":
                array = array.astype(np.float32)
            inputs.append(f"{name}.{argument}")
            self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), inputs[-1]))
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        self._last = name


_LAYERS: dict[type[Layer], Callable[[_Graph, str, Any], None]] = {
    Dense: _Graph.dense,
    ReLU: _Graph.relu,
    Dropout: _Graph.dropout,
    Flatten: _Graph.flatten,
    Conv: _Graph.convolution,
    MaxPool: _Graph.max_pool,
    GlobalAveragePool: _Graph.average_pool,
    BatchNorm: _Graph.normalization,
}
