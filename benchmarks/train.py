"""Training time of `tasks.nn` against PyTorch and scikit-learn, side by side in one run.

    python benchmarks/train.py                 # everything
    python benchmarks/train.py --only cnn      # cases whose name contains "cnn"
    python benchmarks/train.py --smoke         # every case once, tiny: does it still run?

Both sides train the same network on the same images, with the same batches, optimiser and
number of threads, in turn (A B A B …); the table shows medians, and the share of the measured
speed of one large matrix product (the peak of what BLAS gives) that NumPy's side reaches.
NumPy's side is the library's public path, `Training.fit`. Where PyTorch or scikit-learn is
missing, the table says so and shows NumPy's side alone. The images are random bytes with
MNIST's share of ink, since speed does not depend on what they show.

Cases of one thread compare CPU time, which other work on the machine disturbs little. Those of
two threads compare wall time and mean something only on a machine that is otherwise idle.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kernels import kernel_name, use_own_kernels  # noqa: E402 - found by now
from benchmarks.measure import MOST_SECONDS  # noqa: E402

REST_SECONDS = 0.2  # Both BLAS pools spin for a while after work; let them come to rest.


@dataclass(frozen=True)
class Case:
    """One comparison: the network, how it is trained, and the bar for the ratio."""

    name: str
    bar: float
    threads: int
    hidden: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    batch: int = 128
    dropout: float = 0.0
    batch_norm: bool = False
    adam: bool = False
    rival: str = "torch"
    channels_last: bool = False
    images: int = 60_000
    repeats: int = 5


CASES = [
    Case("784-100-10, batch 32, dropout, SGD", 0.35, 2, (100,), batch=32, dropout=0.5),
    Case("784-100-10, batch 128, dropout, SGD", 0.40, 2, (100,), dropout=0.5),
    Case("784-512-10, batch 128, dropout, SGD", 0.50, 2, (512,), dropout=0.5),
    Case("784-512-10, batch 512, dropout, SGD", 0.65, 2, (512,), batch=512, dropout=0.5),
    Case("784-100-10, batch 128, SGD", 0.58, 1, (100,)),
    Case("784-512-10, batch 128, SGD", 0.80, 1, (512,)),
    Case("784-512-256-10, batch norm, Adam", 0.75, 1, (512, 256), batch_norm=True, adam=True),
    Case("cnn 16-32-128, Adam, NCHW", 0.85, 1, (128,), (16, 32), adam=True, images=12_800),
    Case(
        "cnn 16-32-128, Adam, channels_last",
        1.00,
        1,
        (128,),
        (16, 32),
        adam=True,
        channels_last=True,
        images=12_800,
    ),
    Case("scikit-learn MLPClassifier 784-512-10", 0.60, 1, (512,), rival="sklearn", repeats=3),
]


def make_data(n: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    images *= rng.random((n, 28, 28)) < 0.19
    return images, rng.integers(0, 10, n)


def numpy_epoch(case: Case, images: Any, labels: Any) -> Callable[[], None]:
    import numpy as np

    from digitflow.tasks.nn.convolution import Conv
    from digitflow.tasks.nn.feed import Feed
    from digitflow.tasks.nn.fit import Examples, Training
    from digitflow.tasks.nn.layer import Layer
    from digitflow.tasks.nn.layers import Dense, Dropout, Flatten, ReLU
    from digitflow.tasks.nn.losses import CrossEntropy
    from digitflow.tasks.nn.network import Network
    from digitflow.tasks.nn.normalization import BatchNorm
    from digitflow.tasks.nn.optimizers import SGD, Adam
    from digitflow.tasks.nn.pooling import MaxPool
    from digitflow.tasks.nn.randomness import Randomness

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


def torch_epoch(case: Case, images: Any, labels: Any) -> Callable[[], None]:
    import torch
    from torch import nn

    torch.set_num_threads(case.threads)
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
    model = nn.Sequential(*layers)
    if case.channels_last:
        model = model.to(memory_format=torch.channels_last)
    parameters = model.parameters()
    optimizer: torch.optim.Optimizer
    if case.adam:
        optimizer = torch.optim.Adam(parameters, lr=0.001)
    else:
        optimizer = torch.optim.SGD(parameters, lr=0.05)
    criterion = nn.CrossEntropyLoss()
    shape = (-1, 1, 28, 28) if case.channels else (-1, 784)
    x_all = torch.from_numpy(images.reshape(len(images), -1))
    y_all = torch.from_numpy(labels)

    def epoch() -> None:
        model.train()
        order = torch.randperm(len(x_all))
        losses, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for rows in order.split(case.batch):
            x = x_all[rows].float().mul_(1 / 255).reshape(shape)
            if case.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            y = y_all[rows]
            optimizer.zero_grad(set_to_none=True)
            outputs = model(x)
            loss = criterion(outputs, y)
            loss.backward()
            optimizer.step()
            losses += loss.detach() * len(rows)
            hits += (outputs.detach().argmax(1) == y).sum()

    return epoch


def sklearn_epoch(case: Case, images: Any, labels: Any) -> Callable[[], None]:
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    # scikit-learn has no batches of bytes: it is given its floats outside the measurement.
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


def flops_per_image(case: Case) -> int:
    """Floating-point operations of the matrix products for one image, there and back.

    Every product is needed three times (output, gradient in the weights, gradient in the input),
    the first layer's only twice.
    """
    products, side, width = [], 28, 1
    for channels in case.channels:
        products.append(9 * width * channels * side * side)
        width, side = channels, side // 2
    width = width * side * side
    for size in (*case.hidden, 10):
        products.append(width * size)
        width = size
    return 2 * (3 * sum(products) - products[0])


def sgemm_peak(clock: Callable[[], float]) -> float:
    """Return the GFLOP/s of one large product in float32, the best of ten."""
    import numpy as np

    a = np.ones((1536, 1536), np.float32)
    out = np.empty_like(a)
    best = float("inf")
    for _ in range(10):
        start = clock()
        np.matmul(a, a, out=out)
        best = min(best, clock() - start)
    return 2 * 1536**3 / best / 1e9


RIVALS = {"torch": torch_epoch, "sklearn": sklearn_epoch}


def measure(case: Case, *, smoke: bool) -> dict[str, Any]:
    """Run A B A B and return seconds per epoch of both sides."""
    clock = time.process_time if case.threads == 1 else time.perf_counter
    images, labels = make_data(10 * case.batch if smoke else case.images)
    warm_images, warm_labels = images[: 4 * case.batch], labels[: 4 * case.batch]
    sides = []
    makers = [numpy_epoch]
    if importlib.util.find_spec(case.rival) is not None:
        makers.append(RIVALS[case.rival])
    for make in makers:
        make(case, warm_images, warm_labels)()
        sides.append(make(case, images, labels))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(1 if smoke else case.repeats):
        for side, epoch in enumerate(sides):
            time.sleep(REST_SECONDS)
            start = clock()
            epoch()
            seconds[side].append(clock() - start)
    peak = sgemm_peak(clock)
    return {"numpy": seconds[0], "rival": seconds[1], "peak": peak, "images": len(images)}


def run_in_process(index: int, threads: int, *, smoke: bool) -> dict[str, Any]:
    """Measure one case in a process of its own, where the number of threads can be set."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **{name: str(threads) for name in names}}
    command = [sys.executable, __file__, "--case", str(index)]
    command += ["--with-threads", str(threads), *(["--smoke"] if smoke else [])]
    output = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, timeout=MOST_SECONDS
    )
    result: dict[str, Any] = json.loads(output.stdout)
    return result


def main() -> None:
    use_own_kernels()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--threads", type=int, help="cases of this number of threads")
    parser.add_argument("--with-threads", type=int, help="this number instead of each case's own")
    parser.add_argument("--smoke", action="store_true", help="tiny and once: does it run?")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        case = CASES[arguments.case]
        case = replace(case, threads=arguments.with_threads or case.threads)
        print(json.dumps(measure(case, smoke=arguments.smoke)))
        return
    load = os.getloadavg()[0]
    print(f"load average before: {load:.2f}; CPUs: {os.cpu_count()}; OpenBLAS: {kernel_name()}")
    print("| case | threads | NumPy s/60k | rival s/60k | ratio | spread | bar | | of peak |")
    print("|---|---|---|---|---|---|---|---|---|")
    for index, case in enumerate(CASES):
        if arguments.only not in case.name or arguments.threads not in (None, case.threads):
            continue
        case = replace(case, threads=arguments.with_threads or case.threads)
        result = run_in_process(index, case.threads, smoke=arguments.smoke)
        ours, scale = statistics.median(result["numpy"]), 60_000 / result["images"]
        share = flops_per_image(case) * result["images"] / ours / 1e9 / result["peak"]
        kind = "CPU" if case.threads == 1 else "wall"
        row = f"| {case.name} | {case.threads} ({kind}) | {ours * scale:.3f} "
        if result["rival"]:
            theirs = statistics.median(result["rival"])
            ratios = [a / b for a, b in zip(result["numpy"], result["rival"], strict=True)]
            verdict = "met" if ours / theirs <= case.bar else "missed"
            row += (
                f"| {theirs * scale:.3f} | {ours / theirs:.2f} "
                f"| {min(ratios):.2f}–{max(ratios):.2f} | {case.bar:.2f} | {verdict} "
            )
        else:
            row += f"| {case.rival} is not installed | | | {case.bar:.2f} | "
        print(f"{row}| {share:.0%} |", flush=True)


if __name__ == "__main__":
    main()
