"""A trained network as an ONNX model, for runtimes that know nothing of this project.

The graph takes the bytes of the images and scales them itself, so that a deployment cannot
scale them differently from training. Everything in it is float32, the type that every runtime
computes with; a network trained in float64 loses what lies beyond the seventh digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.inference.model_file import kind_of, split_ensemble, to_network
from digitflow.tasks.nn.inference.onnx_graph import (
    Graph,
    add_ensemble,
    add_input,
    add_network,
    add_probabilities,
)
from digitflow.tasks.nn.layers.base import Dense, ReLU
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT = "images"
LOGITS = "logits"
PROBABILITIES = "probabilities"

# Both of 2022: runtimes refuse what is newer than they are, and no operator here needs more.
OPSET = 17
IR_VERSION = 8


def to_onnx(
    weights: Mapping[str, NDArray[Any]],
    *,
    loss: str,
    producer_version: str = "",
    version: int = 0,
    about: Mapping[str, str] | None = None,
) -> ModelProto:
    """Return a trained network as a checked ONNX model.

    Its input is ``images``, uint8 from 0 to 255, of shape (batch, height, width), or
    (batch, channels, height, width) where a network has several channels. A network that begins
    with a dense layer knows only how many pixels there are, so its height and width are free.
    Its outputs are ``logits`` and ``probabilities``, float32 of shape (batch, classes).

    Parameters
    ----------
    weights : mapping of NDArray
        Content of a model file, an ensemble's as well.
    loss : str
        Setting `loss` of the training, which decides what the outputs mean.
    producer_version : str
        Version of digitflow.
    version : int
        Version of the model.
    about : mapping of str, optional
        Metadata for the reader of the file.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    ValueError
        If the weights describe no network, it has a layer that is not known here, or the loss
        is not known.
    """
    from onnx import TensorProto, checker, helper

    is_ensemble = kind_of(weights) == "ensemble"
    members = split_ensemble(weights)[0] if is_ensemble else [weights]
    networks = [_network(member) for member in members]
    (classes,), shape = networks[0].output_shape, networks[0].input_shape
    graph = Graph()
    x = add_input(graph, INPUT, shape, inverted=networks[0].inverted)
    if is_ensemble:
        outputs = add_ensemble(graph, x, networks, loss)
    else:
        outputs = add_network(graph, x, networks[0])
    graph.add(LOGITS, "Identity", outputs)
    add_probabilities(graph, PROBABILITIES, LOGITS, loss, classes)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "digitflow",
            [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, _input_shape(shape))],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes])
                for name in (LOGITS, PROBABILITIES)
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


def _network(weights: Mapping[str, NDArray[Any]]) -> Network:
    """Return the network that the weights belong to; the tutorial's are kept without its layers."""
    if kind_of(weights) != "tutorial":
        return to_network(weights)
    pixels, hidden_size = weights["weights_1"].shape
    classes = weights["weights_2"].shape[1]
    layers = [Dense(hidden_size, bias=False), ReLU(), Dense(classes, bias=False)]
    network = Network(layers, (pixels,), randomness=Randomness.from_seed(0), dtype=np.float64)
    first, second = network.state()
    network.restore({first: weights["weights_1"], second: weights["weights_2"]})
    return network


def _input_shape(shape: tuple[int, ...]) -> list[str | int]:
    """Return the shape of the images; what the network does not fix is named instead."""
    if len(shape) == 1:
        return ["batch", "height", "width"]
    return ["batch", *(shape[1:] if shape[0] == 1 else shape)]
