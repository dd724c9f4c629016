"""What networks, ensembles and probabilities compute, as nodes of an ONNX graph.

Operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU, Shape
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.network import Network

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


class Graph:
    """Nodes in the order in which they are computed, and the arrays that they take.

    Parameters
    ----------
    prefix : str
        What the names of all that is added begin with.

    Attributes
    ----------
    nodes : list of NodeProto
    arrays : list of TensorProto
        Weights and other constants. Floats are float32, the type that every runtime computes with.
    """

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.arrays: list[TensorProto] = []

    def under(self, prefix: str) -> Graph:
        """Return this graph, but with another prefix before all names that are added."""
        part = Graph(self.prefix + prefix)
        part.nodes, part.arrays = self.nodes, self.arrays
        return part

    def add(
        self,
        name: str,
        operator: str,
        *inputs: str,
        arrays: dict[str, NDArray[Any]] | None = None,
        more_outputs: tuple[str, ...] = (),
        **attributes: Any,
    ) -> str:
        """Add a node, and return the name of its output, or of the first of them.

        Parameters
        ----------
        name : str
            Of the node, and of its output.
        operator : str
            One of ONNX's.
        *inputs : str
            Names of what it takes.
        arrays : dict of NDArray, optional
            What it takes beside them, in order; kept in the graph as ``name.key``.
        more_outputs : tuple of str, optional
            Names of those after the first.
        **attributes
            The operator's.
        """
        from onnx import helper

        name = self.prefix + name
        constants = [self._keep(f"{name}.{key}", array) for key, array in (arrays or {}).items()]
        outputs = [name, *(self.prefix + each for each in more_outputs)]
        self.nodes.append(
            helper.make_node(operator, [*inputs, *constants], outputs, name=name, **attributes)
        )
        return name

    def _keep(self, name: str, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        self.arrays.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def add_input(graph: Graph, images: str, shape: Shape, *, inverted: bool = False) -> str:
    """Add what makes a network's input, of sample shape `shape`, of bytes; return its name."""
    from onnx import TensorProto

    floats = graph.add("to_float", "Cast", images, to=TensorProto.FLOAT)
    if inverted:
        white = graph.add("white", "Constant", value_float=255.0)
        floats = graph.add("inverted", "Sub", white, floats)
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
    if network.mean or network.deviation != 1:
        # The members of an ensemble learnt from different images.
        mean, deviation = np.array(network.mean), np.array(network.deviation)
        x = graph.add("from_mean", "Sub", x, arrays={"mean": mean})
        x = graph.add("standardized", "Div", x, arrays={"deviation": deviation})
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


def add_probabilities(graph: Graph, name: str, outputs: str, loss: str, classes: int) -> str:
    """Add what makes probabilities of a network's outputs (n, classes), and return their name.

    Parameters
    ----------
    graph : Graph
    name : str
        What the probabilities are called.
    outputs : str
        Name of the network's outputs.
    loss : str
        The setting `loss` of the training.
    classes : int
        How many there are.

    Raises
    ------
    ValueError
        If the loss is not known.
    """
    if loss == "cross_entropy":
        return graph.add(name, "Softmax", outputs, axis=1)
    if loss == "squared_error":
        shares = _nearest_distribution(graph.under(f"{name}/"), outputs, classes)
        return graph.add(name, "Div", *shares)
    message = f"expected outputs of the loss cross_entropy or squared_error, found {loss!r}"
    raise ValueError(message)


def _nearest_distribution(graph: Graph, outputs: str, classes: int) -> tuple[str, str]:
    """Add shares of each class, none below 0, and what each row of them adds up to: 1, nearly."""
    from onnx import TensorProto

    axis, one = {"axis": np.array([1])}, {"one": np.array(1.0)}
    largest = graph.add("largest", "ReduceMax", outputs, axes=[1])
    shifted = graph.add("shifted", "Sub", outputs, largest)
    count = {"count": np.array([classes])}
    descending = graph.add(
        "descending", "TopK", shifted, arrays=count, more_outputs=("order",), axis=1
    )
    total = graph.add("cumulative", "CumSum", descending, arrays={"axis": np.array(1)})
    excess = graph.add("excess", "Sub", total, arrays=one)
    offsets = graph.add("offsets", "Div", excess, arrays={"counts": np.arange(1.0, classes + 1)})
    above = graph.add("above", "Greater", descending, offsets)
    counted = graph.add("counted", "Cast", above, to=TensorProto.INT64)
    kept = graph.add("kept", "ReduceSum", counted, arrays=axis)
    last = graph.add("last", "Sub", kept, arrays={"one": np.array(1)})
    offset = graph.add("offset", "GatherElements", offsets, last, axis=1)
    shares = graph.add("shares", "Relu", graph.add("difference", "Sub", shifted, offset))
    return shares, graph.add("sum", "ReduceSum", shares, arrays=axis)


def add_ensemble(graph: Graph, x: str, members: Sequence[Network], loss: str) -> str:
    """Add every member, all with the input called `x`; return the name of their joint outputs.

    They mean what a single network's do: with ``cross_entropy`` the logarithm of the members' mean
    probability, else that mean itself.
    """
    shares = []
    for number, member in enumerate(members):
        part = graph.under(f"member_{number}/")
        outputs = add_network(part, x, member)
        if loss == "cross_entropy":
            # In logarithms throughout: a probability that underflows to 0 has none.
            logs = part.add("logs", "LogSoftmax", outputs, axis=1)
            shares.append(part.add("row", "Unsqueeze", logs, arrays={"axes": np.array([1])}))
        else:
            (classes,) = member.output_shape
            shares.append(add_probabilities(part, "shares", outputs, loss, classes))
    if loss != "cross_entropy":
        return graph.add("mean", "Mean", *shares)
    stacked = graph.add("members", "Concat", *shares, axis=1)
    total = graph.add("total", "ReduceLogSumExp", stacked, axes=[1], keepdims=0)
    return graph.add("mean", "Sub", total, arrays={"log_count": np.log([len(members)])})
