"""The same networks in PyTorch: outputs, gradients and optimiser steps agree to 1e-5."""

from typing import Any

import numpy as np
import pytest

from digitflow.tasks.nn.layers.base import Dense, Flatten, Layer, ReLU
from digitflow.tasks.nn.layers.convolution import Conv, GlobalAveragePool, MaxPool
from digitflow.tasks.nn.layers.normalization import BatchNorm
from digitflow.tasks.nn.losses import CrossEntropy
from digitflow.tasks.nn.network import Network
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.training.optimizers import SGD, Adam, AdamW, Optimizer
from tests.nn.random_networks import SIZES, in_order, random_network

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn

pytestmark = pytest.mark.torch

LABELS = np.random.default_rng(5).integers(0, 10, 12)


def plain() -> tuple[list[Layer], Any, tuple[int, ...]]:
    ours: list[Layer] = [Dense(20), BatchNorm(), ReLU(), Dense(15), ReLU(), Dense(10)]
    theirs = nn.Sequential(
        nn.Linear(64, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 15), nn.ReLU(),
        nn.Linear(15, 10),
    )  # fmt: skip
    return ours, theirs, (64,)


def convolutional() -> tuple[list[Layer], Any, tuple[int, ...]]:
    ours: list[Layer] = [Conv(4), MaxPool(), ReLU(), Conv(6, 5, stride=2), BatchNorm(), ReLU()]
    ours += [Conv(5, padding=0), GlobalAveragePool(), Dense(10)]
    theirs = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 5, stride=2, padding=2), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 10),
    )  # fmt: skip
    return ours, theirs, (1, 14, 14)


class RowsFirst(nn.Module):
    """Flatten as (height, channels, width), the order of the library."""

    def forward(self, x: Any) -> Any:
        return x.permute(0, 2, 1, 3).flatten(1)


def flattened() -> tuple[list[Layer], Any, tuple[int, ...]]:
    ours: list[Layer] = [Conv(4), MaxPool(), ReLU(), Flatten(), Dense(10)]
    theirs = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), RowsFirst(), nn.Linear(100, 10)
    )
    return ours, theirs, (1, 10, 10)


def pair(kind: Any, seed: int) -> tuple[Network, Any, Any]:
    """Two networks with equal weights in float64, and a batch for both."""
    layers, theirs, shape = kind()
    torch.manual_seed(seed)
    theirs = theirs.double()
    ours = Network(layers, shape, randomness=Randomness.from_seed(seed), dtype="float64")
    learning = [module for module in theirs if list(module.parameters(recurse=False))]
    for layer, module in zip((x for x in ours.layers if x.parameters), learning, strict=True):
        for (name, parameter), tensor in zip(
            layer.parameters.items(), module.parameters(), strict=True
        ):
            parameter.value[...] = to_ours(name, tensor.detach().numpy())
    x = np.random.default_rng(seed).standard_normal((12, *shape))
    return ours, theirs, x


def to_ours(name: str, array: Any) -> Any:
    """Torch keeps weights as (outputs, inputs) and kernels as (outputs, inputs, rows, columns)."""
    if name == "weights":
        return array.T
    return array.transpose(0, 2, 3, 1) if name == "kernels" else array


def flat(ours: Network, theirs: Any, read: Any) -> list[Any]:
    """What `read` takes from Torch's parameters, in the library's layout, in the same order."""
    names = [name for layer in ours.layers for name in layer.parameters]
    return [
        to_ours(name, read(tensor).detach().numpy())
        for name, tensor in zip(names, theirs.parameters(), strict=True)
    ]


def close(found: Any, expected: Any) -> None:
    # 1e-12 is for gradients that are 0 but for rounding: biases before batch normalisation.
    atol = 1e-12 + 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("kind", [plain, convolutional, flattened])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_outputs_losses_and_gradients_agree(kind: Any, seed: int, smoothing: float) -> None:
    ours, theirs, x = pair(kind, seed)
    loss = CrossEntropy(10, smoothing, "float64")
    outputs = ours.forward(x.copy(), training=True)
    losses = loss.forward(outputs, LABELS)

    tensor = theirs(torch.from_numpy(x))
    criterion = nn.CrossEntropyLoss(reduction="none", label_smoothing=smoothing)
    expected = criterion(tensor, torch.from_numpy(LABELS))
    close(outputs, tensor.detach().numpy())
    close(losses, expected.detach().numpy())

    ours.backward(loss.backward(12))
    expected.mean().backward()
    found = [p.gradient for layer in ours.layers for p in layer.parameters.values()]
    for gradient, other in zip(found, flat(ours, theirs, lambda t: t.grad), strict=True):
        close(gradient, other)

    theirs.eval()
    close(ours.forward(x.copy()), theirs(torch.from_numpy(x)).detach().numpy())


def module_of(layer: Layer, shape: tuple[int, ...]) -> Any:
    """PyTorch's module for a layer that takes samples of `shape`."""
    if isinstance(layer, Dense):
        return nn.Linear(shape[0], layer.outputs, bias=layer.bias)
    if isinstance(layer, Conv):
        sizes = (shape[0], layer.outputs, layer.kernel, layer.stride, layer.padding)
        return nn.Conv2d(*sizes, bias=layer.bias)
    if isinstance(layer, BatchNorm):
        return (nn.BatchNorm1d if len(shape) == 1 else nn.BatchNorm2d)(shape[0])
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(layer.size)
    if isinstance(layer, GlobalAveragePool):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return RowsFirst() if isinstance(layer, Flatten) else nn.ReLU()


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("seed", range(30))
def test_random_networks_agree(seed: int, n: int) -> None:
    ours, _ = random_network(seed, "float64", dropout=False)
    shape, modules = ours.input_shape, []
    for layer in ours.layers:
        if isinstance(layer, BatchNorm) and (n == 1 or shape[-1] == 1):
            pytest.skip("PyTorch normalises no single number, and wrongly at a width of 1")
        modules.append(module_of(layer, shape))
        shape = layer.output_shape(shape)
    theirs = nn.Sequential(*modules).double()
    for layer, module in zip(ours.layers, theirs, strict=True):
        for (name, parameter), tensor in zip(
            layer.parameters.items(), module.parameters(), strict=True
        ):
            value = parameter.value
            if name == "weights":
                value = value.T
            elif name == "kernels":
                value = value.transpose(0, 3, 1, 2)
            tensor.data.copy_(torch.from_numpy(np.ascontiguousarray(value)))
    x = np.random.default_rng((seed, n)).standard_normal((n, *ours.input_shape))
    outputs = ours.forward(x, training=True)
    tensor = theirs(torch.from_numpy(x))
    close(outputs, tensor.detach().numpy())
    dy = np.random.default_rng(n).standard_normal(outputs.shape)
    tensor.backward(torch.from_numpy(dy))
    expected = flat(ours, theirs, lambda t: t.grad)
    # Biases before batch normalisation have gradients of nothing but rounding.
    scale = max(1.0, *(float(np.abs(gradient).max()) for gradient in expected))
    for order in ("C", "F", "strided", "reversed"):
        ours.backward(in_order(dy, order))
        found = [p.gradient for layer in ours.layers for p in layer.parameters.values()]
        for gradient, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(gradient, other, rtol=1e-5, atol=1e-9 * scale)


OPTIMIZERS: list[tuple[Optimizer, Any]] = [
    (SGD(), lambda p: torch.optim.SGD(p, lr=0.05)),
    (
        SGD(0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    ),
    (SGD(0.9, nesterov=True), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True)),
    (Adam(weight_decay=0.1), lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1)),
    (AdamW(weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1)),
]


@pytest.mark.parametrize(("optimizer", "make"), OPTIMIZERS)
def test_optimiser_steps_agree(optimizer: Optimizer, make: Any) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(50)
    tensor = torch.nn.Parameter(torch.from_numpy(values.copy()))
    other = make([tensor])
    optimizer.prepare(50, 50, np.float64)
    for _ in range(20):
        gradient = rng.standard_normal(50)
        tensor.grad = torch.from_numpy(gradient.copy())
        other.step()
        optimizer.step(values, gradient, 0.05)
        close(values, tensor.detach().numpy())
