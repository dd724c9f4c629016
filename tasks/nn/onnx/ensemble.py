"""Several networks as one, as nodes of an ONNX graph: `tasks.nn.ensemble`, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.onnx.graph import Graph
from digitflow.tasks.nn.onnx.layers import add_network
from digitflow.tasks.nn.onnx.probabilities import add_probabilities


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
