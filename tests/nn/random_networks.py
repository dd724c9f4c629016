"""Random networks, and the same numbers in every order in which an array may lie in memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness

Shape = tuple[int, ...]

# One image, a few, and one less, exactly and one more than what passes at once; twice that and one.
SIZES = (1, 2, 3, 31, 32, 33, 65)
ORDERS = ("C", "F", "strided", "reversed", "broadcast")
CLASSES = 4


def in_order(array: NDArray[Any], order: str) -> NDArray[Any]:
    """Return an array equal to `array` that lies in memory in another way.

    ``broadcast`` repeats its first row, so the numbers are others; the memory is read-only.
    """
    if order == "broadcast":
        return np.broadcast_to(array[:1].copy(), array.shape)
    if order == "C":
        return np.ascontiguousarray(array)
    if order == "F":
        return np.asfortranarray(array)
    step = 2 if order == "strided" else -1
    room = np.zeros([abs(step) * length for length in array.shape], array.dtype)
    view = room[(slice(None, None, step),) * array.ndim]
    view[...] = array
    return view


def random_layers(rng: np.random.Generator, *, normalized: bool, dropout: bool) -> list[Layer]:
    """Return layers from one of three shapes of input to `CLASSES` outputs."""

    def between() -> list[Layer]:
        layers: list[Layer] = [BatchNorm()] if normalized and rng.random() < 0.7 else []
        layers += [ReLU()] if rng.random() < 0.8 else []
        layers += [Dropout(float(rng.choice([0.5, 0.3])))] if dropout and rng.random() < 0.6 else []
        return layers

    bias = bool(rng.random() < 0.8)
    layers: list[Layer] = []
    for _ in range(rng.integers(0, 3)):
        kernel = int(rng.choice([1, 2, 3, 5, 9]))
        padding = int(rng.integers(0, kernel))
        stride = int(rng.choice([1, 1, 2, 3]))
        layers.append(Conv(int(rng.integers(1, 5)), kernel, stride, padding, bias))
        if rng.random() < 0.5:
            layers.append(MaxPool(int(rng.choice([1, 2, 3]))))
        layers += between()
    layers.append(GlobalAveragePool() if layers and rng.random() < 0.3 else Flatten())
    layers += between() if rng.random() < 0.3 else []
    for _ in range(rng.integers(0, 3)):
        layers += [Dense(int(rng.choice([1, 6, 40])), bias), *between()]
    return [*layers, Dense(CLASSES, bias), *(between() if rng.random() < 0.2 else [])]


def random_network(
    seed: int, dtype: str, *, normalized: bool = True, dropout: bool = True
) -> tuple[Network, Randomness]:
    """Return a network whose layers, sizes and weights depend on `seed` alone, and its dice."""
    rng = np.random.default_rng(seed)
    while True:
        shape = (int(rng.choice([1, 1, 3])), *(int(rng.integers(1, 11)) for _ in range(2)))
        layers = random_layers(rng, normalized=normalized, dropout=dropout)
        randomness = Randomness.from_seed(seed)
        try:
            network = Network(layers, shape, randomness=randomness, dtype=dtype)
        except ValueError:  # some layer takes no image of that size
            continue
        # Biases and shifts start at 0, where ReLU has its kink.
        network.values += 0.2 * rng.standard_normal(network.values.size).astype(dtype)
        return network, randomness
