"""Outputs as probabilities, as nodes of an ONNX graph: `tasks.nn.probabilities`, step by step."""

from __future__ import annotations

import numpy as np

from digitflow.tasks.nn.onnx.graph import Graph


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
