"""How fast each library multiplies matrices, in the shapes of a training: what BLAS alone does."""

from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.rivals import Case

# A convolution is counted as a product of its kernels with the columns of so many images, few
# enough that these stay in the processor's cache. Neither library need work like that.
COLUMNS = 8
ROUNDS = 20

Product = tuple[int, int, int]


def products(case: Case) -> dict[Product, float]:
    """Return the matrix products of one batch: (m, k, n) of (m × k)(k × n), and how many.

    A layer needs three: its output, the gradient in its weights and that in its input, which the
    first layer does without.
    """
    counts: dict[Product, float] = {}

    def add(rows: int, inputs: int, outputs: int, count: float) -> None:
        needed = [(rows, inputs, outputs), (inputs, rows, outputs), (rows, outputs, inputs)]
        for product in needed if counts else needed[:2]:
            counts[product] = counts.get(product, 0) + count

    side, width = 28, 1
    for channels in case.channels:
        add(COLUMNS * side * side, 9 * width, channels, case.batch / COLUMNS)
        width, side = channels, side // 2
    width = width * side * side
    for size in (*case.hidden, 10):
        add(case.batch, width, size, 1)
        width = size
    return counts


def flops_per_image(case: Case) -> float:
    """Return the floating-point operations of the matrix products for one image."""
    return sum(2 * m * k * n * count for (m, k, n), count in products(case).items()) / case.batch


def rates(
    case: Case,
    multipliers: Mapping[str, Callable[[Product], Callable[[], Any]]],
    clock: Callable[[], float],
    rounds: int = ROUNDS,
) -> dict[str, float]:
    """Return each library's GFLOP/s in a case's products, measured in turn, the best of each."""
    seconds = dict.fromkeys(multipliers, 0.0)
    for product, count in products(case).items():
        calls = max(1, 20_000_000 // (2 * product[0] * product[1] * product[2]))
        prepared = {name: make(product) for name, make in multipliers.items()}
        best = dict.fromkeys(multipliers, float("inf"))
        for _ in range(rounds):
            for name, multiply in prepared.items():
                multiply()
                start = clock()
                for _ in range(calls):
                    multiply()
                best[name] = min(best[name], (clock() - start) / calls)
        for name in multipliers:
            seconds[name] += best[name] * count
    flops = flops_per_image(case) * case.batch
    return {name: flops / each / 1e9 for name, each in seconds.items()}


def numpy_product(shape: Product) -> Callable[[], Any]:
    import numpy as np

    m, k, n = shape
    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), "f4")
    return lambda: np.matmul(a, b, out=out)


def torch_product(shape: Product) -> Callable[[], Any]:
    import torch

    m, k, n = shape
    a, b, out = torch.ones((m, k)), torch.ones((k, n)), torch.empty((m, n))
    return lambda: torch.mm(a, b, out=out)
