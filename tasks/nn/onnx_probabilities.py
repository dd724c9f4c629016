"""Outputs as probabilities, as nodes of an ONNX graph: `tasks.nn.probabilities`, step by step."""

from __future__ import annotations

import numpy as np

from tasks.nn.onnx_graph import Graph


def add_probabilities(graph: Graph, outputs: str, name: str, loss: str, classes: int) -> None:
    """Add what makes probabilities, called `name`, of a network's outputs (n, classes).

    Parameters
    ----------
    graph : Graph
    outputs : str
        Name of the network's outputs.
    name : str
        What the probabilities are called.
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
        graph.add(name, "Softmax", outputs, axis=1)
    elif loss == "squared_error":
        _add_nearest_distribution(graph, outputs, name, classes)
    else:
        message = f"expected outputs of the loss cross_entropy or squared_error, found {loss!r}"
        raise ValueError(message)


def _add_nearest_distribution(graph: Graph, outputs: str, name: str, classes: int) -> None:
    from onnx import TensorProto

    axis, one = {"axis": np.array([1])}, {"one": np.array(1.0)}
    largest = graph.add("largest", "ReduceMax", outputs, axes=[1])
    shifted = graph.add("shifted", "Sub", outputs, largest)
    graph.add(
        "descending",
        "TopK",
        shifted,
        arrays={"count": np.array([classes])},
        outputs=("descending", "order"),
        axis=1,
    )
    total = graph.add("cumulative", "CumSum", "descending", arrays={"axis": np.array(1)})
    excess = graph.add("excess", "Sub", total, arrays=one)
    offsets = graph.add("offsets", "Div", excess, arrays={"counts": np.arange(1.0, classes + 1)})
    above = graph.add("above", "Greater", "descending", offsets)
    counted = graph.add("above.count", "Cast", above, to=TensorProto.INT64)
    kept = graph.add("kept", "ReduceSum", counted, arrays=axis)
    last = graph.add("kept.last", "Sub", kept, arrays={"one": np.array(1)})
    offset = graph.add("offset", "GatherElements", offsets, last, axis=1)
    shares = graph.add("shares", "Relu", graph.add("shares.signed", "Sub", shifted, offset))
    graph.add(name, "Div", shares, graph.add("shares.sum", "ReduceSum", shares, arrays=axis))
