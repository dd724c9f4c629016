"""What each layer computes in prediction, as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from digitflow.tasks.nn.convolution import Conv
from digitflow.tasks.nn.layer import Layer, Shape
from digitflow.tasks.nn.layers import Dense, Dropout, Flatten, ReLU
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.normalization import BatchNorm
from digitflow.tasks.nn.onnx.graph import Graph
from digitflow.tasks.nn.pooling import GlobalAveragePool, MaxPool


def add_input(graph: Graph, images: str, shape: Shape) -> str:
    """Add what makes a network's input, of sample shape `shape`, of bytes; return its name."""
    from onnx import TensorProto

    floats = graph.add("to_float", "Cast", images, to=TensorProto.FLOAT)
    scaled = graph.add("scale", "Mul", floats, arrays={"factor": np.array(1 / 255)})
    if len(shape) == 1:
        return graph.add("pixels", "Flatten", scaled, axis=1)
    if shape[0] == 1:
        return graph.add("channel", "Unsqueeze", scaled, arrays={"axes": np.array([1])})
    return scaled


def add_network(graph: Graph, x: str, network: Network) -> str:
    """Add every layer of a network whose input is called `x`; return the name of its outputs.

    Raises
    ------
    ValueError
        If a layer is of a kind that is not known here.
    """
    shape = network.input_shape
    for index, layer in enumerate(network.layers):
        name = f"{index}_{type(layer).__name__}"
        if type(layer) not in ADDERS:
            known = ", ".join(kind.__name__ for kind in ADDERS)
            message = f"layer {name} cannot be written as ONNX; those that can are {known}"
            raise ValueError(message)
        x = ADDERS[type(layer)](graph, name, x, layer, shape)
        shape = layer.output_shape(shape)
    return x


def _dense(graph: Graph, name: str, x: str, layer: Dense, _shape: Shape) -> str:
    arrays = {"weights": layer.weights.value}
    if not layer.bias:
        return graph.add(name, "MatMul", x, arrays=arrays)
    return graph.add(name, "Gemm", x, arrays={**arrays, "biases": layer.biases.value})


def _relu(graph: Graph, name: str, x: str, _layer: ReLU, _shape: Shape) -> str:
    return graph.add(name, "Relu", x)


def _dropout(_graph: Graph, _name: str, x: str, _layer: Dropout, _shape: Shape) -> str:
    return x  # prediction leaves everything as it is


def _flatten(graph: Graph, name: str, x: str, _layer: Flatten, shape: Shape) -> str:
    if len(shape) == 3:
        # Our features come in the order (height, channels, width), ONNX's in that of the axes.
        x = graph.add(f"{name}.order", "Transpose", x, perm=[0, 2, 1, 3])
    return graph.add(name, "Flatten", x, axis=1)


def _convolution(graph: Graph, name: str, x: str, layer: Conv, _shape: Shape) -> str:
    # Our kernels are (outputs, kernel, kernel, inputs).
    arrays = {"kernels": layer.kernels.value.transpose(0, 3, 1, 2)}
    if layer.bias:
        arrays["biases"] = layer.biases.value
    return graph.add(
        name,
        "Conv",
        x,
        arrays=arrays,
        kernel_shape=[layer.kernel] * 2,
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
    )


def _max_pool(graph: Graph, name: str, x: str, layer: MaxPool, _shape: Shape) -> str:
    return graph.add(name, "MaxPool", x, kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)


def _average_pool(graph: Graph, name: str, x: str, _layer: GlobalAveragePool, _shape: Shape) -> str:
    mean = graph.add(f"{name}.mean", "GlobalAveragePool", x)  # keeps height and width, as 1
    return graph.add(name, "Flatten", mean, axis=1)


def _normalization(graph: Graph, name: str, x: str, layer: BatchNorm, _shape: Shape) -> str:
    arrays = {
        "scale": layer.scale.value,
        "shift": layer.shift.value,
        "running_mean": layer.running_mean,
        "running_variance": layer.running_variance,
    }
    return graph.add(name, "BatchNormalization", x, arrays=arrays, epsilon=layer.epsilon)


ADDERS: dict[type[Layer], Callable[[Graph, str, str, Any, Shape], str]] = {
    Dense: _dense,
    ReLU: _relu,
    Dropout: _dropout,
    Flatten: _flatten,
    Conv: _convolution,
    MaxPool: _max_pool,
    GlobalAveragePool: _average_pool,
    BatchNorm: _normalization,
}
