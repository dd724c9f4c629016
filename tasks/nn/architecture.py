"""A network's layers as JSON, and back.

Every layer is a dataclass whose fields say all about it, so its class name and its fields are
enough to make it again. The JSON goes into the model file beside the weights; nothing is ever
pickled.
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.convolution import Conv
from digitflow.tasks.nn.layer import Layer
from digitflow.tasks.nn.layers import Dense, Dropout, Flatten, ReLU
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.normalization import BatchNorm
from digitflow.tasks.nn.pooling import GlobalAveragePool, MaxPool
from digitflow.tasks.nn.randomness import Randomness

FORMAT = 1
KEY = "architecture"

LAYERS: dict[str, type[Any]] = {
    layer.__name__: layer
    for layer in (Dense, ReLU, Dropout, Flatten, Conv, MaxPool, GlobalAveragePool, BatchNorm)
}


def describe(network: Network) -> dict[str, Any]:
    """Return what is needed to make `network` again, apart from its numbers."""
    return {
        "format": FORMAT,
        "input_shape": list(network.input_shape),
        "dtype": network.dtype.name,
        "layers": [_describe_layer(layer) for layer in network.layers],
    }


def _describe_layer(layer: Layer) -> dict[str, Any]:
    fields: dict[str, Any] = asdict(layer)  # type: ignore[call-overload]
    return {"type": type(layer).__name__, **fields}


def to_arrays(network: Network) -> dict[str, NDArray[Any]]:
    """Return a copy of the network's numbers and, under ``architecture``, its JSON (uint8)."""
    text = json.dumps(describe(network), sort_keys=True)
    arrays: dict[str, NDArray[Any]] = {KEY: np.frombuffer(text.encode(), dtype=np.uint8)}
    arrays.update({name: array.copy() for name, array in network.state().items()})
    return arrays


def from_arrays(arrays: dict[str, NDArray[Any]]) -> Network:
    """Make the network that `to_arrays` saw.

    Raises
    ------
    ValueError
        If the description is missing, unreadable or of another format, or the arrays do not fit.
    """
    if KEY not in arrays:
        message = (
            f"A model file holds its network's description under {KEY!r}; found only "
            f"{', '.join(sorted(arrays))}. Was it made by another program or preset?"
        )
        raise ValueError(message)
    description = json.loads(arrays[KEY].tobytes())
    if description.get("format") != FORMAT:
        message = (
            f"This version reads model format {FORMAT}; found {description.get('format')!r}. "
            "Train the model again."
        )
        raise ValueError(message)
    network = Network(
        [_layer(fields) for fields in description["layers"]],
        tuple(description["input_shape"]),
        randomness=Randomness.from_seed(0),
        dtype=description["dtype"],
    )
    network.restore({name: array for name, array in arrays.items() if name != KEY})
    return network


def _layer(fields: dict[str, Any]) -> Layer:
    rest = dict(fields)
    kind = rest.pop("type")
    if kind not in LAYERS:
        message = f"Unknown layer type {kind!r}; known are {', '.join(LAYERS)}."
        raise ValueError(message)
    layer: Layer = LAYERS[kind](**rest)
    return layer
