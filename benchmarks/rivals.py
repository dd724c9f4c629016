"""One training written for each library: the sides that `benchmarks/train.py` lets compete.

PyTorch has several, since its defaults are not its fastest: with its fused optimisers, with
channels_last as memory format, compiled, and with all of these. Each side reports loss and
accuracy, as a user's training would.
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any


@dataclass(frozen=True)
class Case:
    """One comparison: the network, how it is trained, and the bar for the ratio."""

    name: str
    bar: float
    hidden: tuple[int, ...]
    channels: tuple[int, ...] = ()
    batch: int = 128
    dropout: float = 0.0
    batch_norm: bool = False
    adam: bool = False
    library: str = "torch"
    images: int = 25_600


Epoch = Callable[[], None]
Maker = Callable[[Case, Any, Any], Epoch]


@dataclass(frozen=True)
class TorchOptions:
    """How PyTorch trains.

    Attributes
    ----------
    fused
        Whether the optimiser updates all weights in one kernel.
    channels_last
        Whether images and kernels lie in memory with the channels innermost.
    compiled
        How `torch.compile` compiles forward pass, loss and their gradients; not at all without.
    backend
        What compiles.
    """

    fused: bool = False
    channels_last: bool = False
    compiled: str = ""
    backend: str = "inductor"

    def __str__(self) -> str:
        layout = "channels_last" if self.channels_last else ""
        optimizer = "fused" if self.fused else ""
        return ", ".join(filter(None, (layout, optimizer, self.compiled))) or "default"


# The compiler's own optimisers were slower than the fused ones, so it is not tried without them.
COMPILED = ("compile", "max-autotune")


def rivals(case: Case, *, backend: str = "inductor") -> dict[str, Maker]:
    """Return all sides that compete with NumPy's in a case, by name."""
    if case.library == "sklearn":
        return {"MLPClassifier": sklearn_epoch}
    return {
        str(options): partial(torch_epoch, options=options)
        for options in _torch_options(case, backend)
    }


def _torch_options(case: Case, backend: str) -> Iterator[TorchOptions]:
    for channels_last in (False, True) if case.channels else (False,):
        yield TorchOptions(channels_last=channels_last)
        for compiled in ("", *COMPILED):
            yield TorchOptions(True, channels_last, compiled, backend)


def why_missing(case: Case, name: str) -> str:
    """Return why a rival cannot run here, or nothing if it can."""
    if importlib.util.find_spec(case.library) is None:
        return f"{case.library} is not installed"
    if "fused" in name and (reason := _why_not_fused()):
        return reason
    if any(mode in name for mode in COMPILED):
        compilers = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
        if not any(map(shutil.which, compilers)):
            return f"torch.compile needs a C++ compiler, found no {' or '.join(compilers)}"
    return ""


def _why_not_fused() -> str:
    import torch

    try:
        torch.optim.Adam([torch.zeros(1, requires_grad=True)], fused=True)
    except RuntimeError as error:
        return str(error)
    return ""


def numpy_epoch(case: Case, images: Any, labels: Any) -> Epoch:
    """The library's public path, `Training.fit`."""
    import numpy as np

    from digitflow.tasks.nn.feed import Feed
    from digitflow.tasks.nn.layers.base import Dense, Dropout, Flatten, Layer, ReLU
    from digitflow.tasks.nn.layers.convolution import Conv, MaxPool
    from digitflow.tasks.nn.layers.normalization import BatchNorm
    from digitflow.tasks.nn.losses import CrossEntropy
    from digitflow.tasks.nn.network import Network
    from digitflow.tasks.nn.randomness import Randomness
    from digitflow.tasks.nn.training.optimizers import SGD, Adam
    from digitflow.tasks.nn.training.trainer import Examples, Training

    layers: list[Layer] = []
    for channels in case.channels:
        layers += [Conv(channels), MaxPool(), ReLU()]
    if case.channels:
        layers.append(Flatten())
    for size in case.hidden:
        layers += [Dense(size), *([BatchNorm()] if case.batch_norm else []), ReLU()]
        layers += [Dropout(case.dropout)] if case.dropout else []
    layers.append(Dense(10))
    randomness = Randomness.from_seed(0)
    shape = (1, 28, 28) if case.channels else (784,)
    network = Network(layers, shape, randomness=randomness)
    training = Training(
        network,
        CrossEntropy(10),
        Adam() if case.adam else SGD(),
        Examples(Feed(images, shape, np.float32), labels, np.arange(len(images))),
        randomness,
        epochs=1,
        batch_size=case.batch,
        learning_rate=0.001 if case.adam else 0.05,
    )

    def epoch() -> None:
        training.fit()

    return epoch


def torch_epoch(case: Case, images: Any, labels: Any, *, options: TorchOptions) -> Epoch:
    """The data is one uint8 tensor that is indexed and scaled by batches, as NumPy's side does."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    width, side = 1, 28
    for channels in case.channels:
        layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        width, side = channels, side // 2
    if case.channels:
        layers.append(nn.Flatten())
    width = width * side * side
    for size in case.hidden:
        layers += [nn.Linear(width, size), *([nn.BatchNorm1d(size)] if case.batch_norm else [])]
        layers += [nn.ReLU(), *([nn.Dropout(case.dropout)] if case.dropout else [])]
        width = size
    layers.append(nn.Linear(width, 10))
    model = nn.Sequential(*layers).train()
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    make = partial(torch.optim.Adam, lr=0.001) if case.adam else partial(torch.optim.SGD, lr=0.05)
    optimizer = make(model.parameters(), fused=options.fused or None)
    criterion = nn.CrossEntropyLoss()
    shape = (-1, 1, 28, 28) if case.channels else (-1, 784)
    x_all = torch.from_numpy(images.reshape(len(images), -1))
    y_all = torch.from_numpy(labels)

    def forward(pixels: Any, y: Any) -> tuple[Any, Any]:
        x = pixels.float().mul_(1 / 255).reshape(shape).contiguous(memory_format=layout)
        outputs = model(x)
        return criterion(outputs, y), (outputs.detach().argmax(1) == y).sum()

    if options.compiled:
        forward = _compile(forward, options)

    def epoch() -> None:
        order = torch.randperm(len(x_all))
        losses, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for rows in order.split(case.batch):
            optimizer.zero_grad(set_to_none=True)
            loss, right = forward(x_all[rows], y_all[rows])
            loss.backward()
            optimizer.step()
            losses += loss.detach() * len(rows)
            hits += right

    return epoch


def _compile(function: Any, options: TorchOptions) -> Any:
    import torch

    # Only one of the backends has modes.
    autotune = options.compiled == "max-autotune" and options.backend == "inductor"
    mode = "max-autotune-no-cudagraphs" if autotune else None
    # A last batch that is smaller gets code of its own instead of code for any size.
    return torch.compile(function, dynamic=False, backend=options.backend, mode=mode)


def sklearn_epoch(case: Case, images: Any, labels: Any) -> Epoch:
    """It has no batches of bytes: it is given its floats outside the measurement."""
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x = (images.reshape(len(images), -1) / np.float32(255)).astype(np.float32)
    warnings.simplefilter("ignore", ConvergenceWarning)

    def epoch() -> None:
        MLPClassifier(
            case.hidden,
            solver="sgd",
            batch_size=case.batch,
            learning_rate_init=0.05,
            momentum=0,
            nesterovs_momentum=False,
            alpha=0,
            max_iter=1,
        ).fit(x, labels)

    return epoch
