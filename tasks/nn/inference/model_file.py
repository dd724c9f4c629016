"""What a model file holds: one network, several as an ensemble, or the tutorial's.

A network is its numbers by name and, beside them, its layers as JSON: every layer is a dataclass
whose fields say all about it, so its class name and its fields are enough to make it again. An
ensemble is its members' arrays, each under a prefix of its own, and a description. Nothing is ever
pickled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness

Arrays = dict[str, NDArray[Any]]
Kind = Literal["network", "ensemble", "tutorial"]

# Names of the arrays that hold a description as JSON bytes, and the version of either.
ARCHITECTURE = "architecture"
ENSEMBLE = "ensemble"
FORMAT = 1

LAYERS: dict[str, type[Any]] = {
    layer.__name__: layer
    for layer in (Dense, ReLU, Dropout, Flatten, Conv, MaxPool, GlobalAveragePool, BatchNorm)
}


def kind_of(weights: Mapping[str, NDArray[Any]]) -> Kind:
    """Return what the arrays of a model file are; the one place that tells them apart.

    The tutorial's model is its two matrices and nothing else, as it has been from the first
    version on; the other kinds hold a description. An array by that name that cannot be read, or
    none, is for `split_ensemble` and `to_network` to refuse.
    """
    if ENSEMBLE in weights:
        return "ensemble"
    return "tutorial" if weights.keys() == {"weights_1", "weights_2"} else "network"


def to_arrays(network: Network) -> Arrays:
    """Return a copy of the network's numbers and, under ``architecture``, its JSON (uint8)."""
    description = {
        "format": FORMAT,
        "input_shape": list(network.input_shape),
        "dtype": network.dtype.name,
        "layers": [_describe(layer) for layer in network.layers],
        **({"inverted": True} if network.inverted else {}),
        **({"mean": network.mean} if network.mean else {}),
        **({"deviation": network.deviation} if network.deviation != 1 else {}),
    }
    numbers = {name: array.copy() for name, array in network.state().items()}
    return {ARCHITECTURE: _as_bytes(description), **numbers}


def to_network(weights: Mapping[str, NDArray[Any]]) -> Network:
    """Make the network that `to_arrays` saw.

    Raises
    ------
    ValueError
        If the description is missing, unreadable or of another format, or the arrays do not fit.
    """
    if ARCHITECTURE not in weights:
        message = (
            f"A model file holds its network's description under {ARCHITECTURE!r}; found only "
            f"{', '.join(sorted(weights))}. Was it made by another program or preset?"
        )
        raise ValueError(message)
    description = json.loads(weights[ARCHITECTURE].tobytes())
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
        inverted=bool(description.get("inverted", False)),
        mean=float(description.get("mean", 0.0)),
        deviation=float(description.get("deviation", 1.0)),
    )
    network.restore({name: array for name, array in weights.items() if name != ARCHITECTURE})
    return network


def join_members(members: Sequence[Mapping[str, NDArray[Any]]], loss: str) -> Arrays:
    """Return the arrays of several models as those of one, their ensemble.

    Parameters
    ----------
    members : sequence of mappings
        Weights of each member, as a `TrainingResult` has them.
    loss : str
        Setting `loss` of their training, which says what their outputs mean.

    Returns
    -------
    dict[str, NDArray]
        ``member_0/…``, ``member_1/…`` and, under ``ensemble``, a description as JSON (uint8).
    """
    arrays = {ENSEMBLE: _as_bytes({"format": FORMAT, "members": len(members), "loss": loss})}
    for number, weights in enumerate(members):
        arrays |= {f"member_{number}/{name}": array for name, array in weights.items()}
    return arrays


def split_ensemble(weights: Mapping[str, NDArray[Any]]) -> tuple[list[Arrays], str]:
    """Return the weights of each member of an ensemble, and their loss.

    Raises
    ------
    ValueError
        If the description is unreadable or of another format, or a member is missing.
    """
    try:
        description = json.loads(weights[ENSEMBLE].tobytes())
        found, count = description["format"], int(description["members"])
        loss = str(description["loss"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"An ensemble's file describes it as JSON under {ENSEMBLE!r}; found none: {error}"
        raise ValueError(message) from error
    if found != FORMAT:
        message = f"This version reads ensemble format {FORMAT}; found {found!r}. Train it again."
        raise ValueError(message)
    members: list[Arrays] = [{} for _ in range(min(count, len(weights)))]
    for name, array in weights.items():
        member, slash, rest = name.partition("/")
        number = member.removeprefix("member_")
        if slash and number.isdecimal() and int(number) < len(members):
            members[int(number)][rest] = array
    if not members or len(members) < count or not all(members):
        message = f"The ensemble should have {count} members; not all of them are in the file."
        raise ValueError(message)
    return members, loss


def _as_bytes(description: Mapping[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(description, sort_keys=True).encode(), dtype=np.uint8)


def _describe(layer: Layer) -> dict[str, Any]:
    fields: dict[str, Any] = asdict(layer)  # type: ignore[call-overload]
    return {"type": type(layer).__name__, **fields}


def _layer(fields: dict[str, Any]) -> Layer:
    rest = dict(fields)
    kind = rest.pop("type")
    if kind not in LAYERS:
        message = f"Unknown layer type {kind!r}; known are {', '.join(LAYERS)}."
        raise ValueError(message)
    layer: Layer = LAYERS[kind](**rest)
    return layer
