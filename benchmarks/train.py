"""Training time of `digitflow.tasks.nn` against the fastest PyTorch and scikit-learn, in one run.

    python benchmarks/train.py                 # everything
    python benchmarks/train.py --only cnn      # cases whose name contains "cnn"
    python benchmarks/train.py --smoke         # every case once, tiny: does it still run?

All sides train the same network on the same images, with the same batches and optimiser, in turn
(A B C A B C …) in one process, after an epoch that is not measured, in which PyTorch compiles. The
strongest rival of a case is that with the least median, and the bar is for the ratio to it. The
second table has all of them. Where PyTorch or scikit-learn is missing, the tables say so and show
NumPy's side alone. The images are random bytes with MNIST's share of ink, since speed does not
depend on what they show. OpenBLAS chooses its kernels itself: nothing is forced.

Each library has one thread, and CPU time is compared, which other work on the machine disturbs
little. With `--threads 2` it is wall time, which means something only on an idle machine.

SGEMM is each library's rate in the matrix products of the case alone. `products alone` is the
ratio that the whole would have if the products were all there is, and `of it products` what share
of NumPy's time they are.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import rivals, sgemm  # noqa: E402 - found by now
from benchmarks.kernels import kernel_name, use_own_kernels, with_threads  # noqa: E402
from benchmarks.measure import MOST_SECONDS  # noqa: E402
from benchmarks.rivals import Case  # noqa: E402

REPEATS = 5
REST_SECONDS = 0.2  # Both BLAS pools spin for a while after work; let them come to rest.
OURS = "NumPy"

CASES = [
    Case("784-100-10, batch 32, dropout, SGD", 0.35, (100,), batch=32, dropout=0.5),
    Case("784-100-10, batch 128, dropout, SGD", 0.40, (100,), dropout=0.5),
    Case("784-512-10, batch 128, dropout, SGD", 0.50, (512,), dropout=0.5),
    Case("784-512-10, batch 512, dropout, SGD", 0.65, (512,), batch=512, dropout=0.5),
    Case("784-100-10, batch 128, SGD", 0.58, (100,)),
    Case("784-512-10, batch 128, SGD", 0.80, (512,)),
    Case("784-512-256-10, batch norm, Adam", 0.75, (512, 256), batch_norm=True, adam=True),
    Case("cnn 16-32-128, Adam", 1.00, (128,), (16, 32), adam=True, images=3_200),
    Case("784-512-10, scikit-learn", 0.60, (512,), library="sklearn"),
]

HEAD = [
    "| case | NumPy s/60k | strongest rival | its s/60k | ratio | spread | bar | "
    "| SGEMM NumPy | SGEMM rival | products alone | of it products |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|",
]
HEAD_OF_ALL = ["| case | all rivals: s/60k (NumPy's ratio to it) |", "|---|---|"]


def make_data(n: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    images *= rng.random((n, 28, 28)) < 0.19
    return images, rng.integers(0, 10, n)


def measure(case: Case, threads: int, *, smoke: bool) -> dict[str, Any]:
    """Run A B C A B C and return each side's seconds per epoch, and each library's SGEMM rate."""
    clock = time.process_time if threads == 1 else time.perf_counter
    images, labels = make_data(3 * case.batch if smoke else case.images)
    # The real compiler takes minutes for all cases.
    makers = rivals.rivals(case, backend="aot_eager" if smoke else "inductor")
    missing = {name: reason for name in makers if (reason := rivals.why_missing(case, name))}
    sides = {OURS: rivals.numpy_epoch(case, images, labels)}
    multipliers = {OURS: sgemm.numpy_product}
    if case.library == "torch" and len(missing) < len(makers):
        import torch

        torch.set_num_threads(threads)
        multipliers["torch"] = sgemm.torch_product
    for name, make in makers.items():
        if name not in missing:
            sides[name] = make(case, images, labels)
    for epoch in sides.values():
        epoch()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(1 if smoke else REPEATS):
        for name, epoch in sides.items():
            time.sleep(REST_SECONDS)
            start = clock()
            epoch()
            seconds[name].append((clock() - start) * 60_000 / len(images))
    rates = sgemm.rates(case, multipliers, clock, 1 if smoke else sgemm.ROUNDS)
    return {"seconds": seconds, "missing": missing, "rates": rates}


def run_in_process(index: int, threads: int, *, smoke: bool) -> dict[str, Any]:
    """Measure one case in a process of its own, where the number of threads can be set."""
    command = [sys.executable, __file__, "--case", str(index), "--threads", str(threads)]
    output = subprocess.run(
        [*command, *(["--smoke"] if smoke else [])],
        env=with_threads(threads),
        check=True,
        stdout=subprocess.PIPE,
        timeout=MOST_SECONDS,
    )
    # The compiler may print, too; the result comes last.
    result: dict[str, Any] = json.loads(output.stdout.splitlines()[-1])
    return result


def by_strength(seconds: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the names of the rivals, that with the least median first."""
    rivals_only = [name for name in seconds if name != OURS]
    return sorted(rivals_only, key=lambda name: statistics.median(seconds[name]))


def row(case: Case, result: Mapping[str, Any]) -> str:
    """Return a case's row of the table: NumPy's side and the strongest rival's."""
    seconds, rates = result["seconds"], result["rates"]
    ours = statistics.median(seconds[OURS])
    flops = sgemm.flops_per_image(case) * 60_000
    share = flops / rates[OURS] / 1e9 / ours
    cells = [case.name, f"{ours:.3f}"]
    if order := by_strength(seconds):
        theirs = statistics.median(seconds[order[0]])
        ratios = [a / b for a, b in zip(seconds[OURS], seconds[order[0]], strict=True)]
        # scikit-learn multiplies with NumPy.
        rate = rates.get(case.library, rates[OURS])
        cells += [
            order[0],
            f"{theirs:.3f}",
            f"{ours / theirs:.2f}",
            f"{min(ratios):.2f}–{max(ratios):.2f}",
            f"{case.bar:.2f}",
            "met" if ours / theirs <= case.bar else "**missed**",
            f"{rates[OURS]:.0f}",
            f"{rate:.0f}",
            f"{rate / rates[OURS]:.2f}",
        ]
    else:
        cells += [next(iter(result["missing"].values())), "", "", "", f"{case.bar:.2f}", ""]
        cells += [f"{rates[OURS]:.0f}", "", ""]
    return f"| {' | '.join([*cells, f'{share:.0%}'])} |"


def row_of_all(case: Case, result: Mapping[str, Any]) -> str:
    """Return a case's row of the second table: all rivals, the strongest first."""
    medians = {name: statistics.median(each) for name, each in result["seconds"].items()}
    cells = [
        f"{name} {medians[name]:.3f} ({medians[OURS] / medians[name]:.2f})"
        for name in by_strength(result["seconds"])
    ]
    cells += [f"{name}: not run, {reason}" for name, reason in result["missing"].items()]
    return f"| {case.name} | {'; '.join(cells)} |"


def versions() -> str:
    found = []
    for name in ("numpy", "torch", "scikit-learn"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def main() -> None:
    use_own_kernels()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--threads", type=int, default=1, help="of each library (default: 1)")
    parser.add_argument("--smoke", action="store_true", help="tiny and once: does it run?")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        case = CASES[arguments.case]
        print(json.dumps(measure(case, arguments.threads, smoke=arguments.smoke)))
        return
    kind = "CPU" if arguments.threads == 1 else "wall"
    print(
        f"{kind} time; threads of each library: {arguments.threads}; {versions()}; "
        f"OpenBLAS: {kernel_name()}; CPUs: {os.cpu_count()}; load average before: "
        f"{os.getloadavg()[0]:.2f}\n"
    )
    print("\n".join(HEAD), flush=True)
    rows_of_all = []
    for index, case in enumerate(CASES):
        if arguments.only in case.name:
            result = run_in_process(index, arguments.threads, smoke=arguments.smoke)
            print(row(case, result), flush=True)
            rows_of_all.append(row_of_all(case, result))
    print("\n".join(["", *HEAD_OF_ALL, *rows_of_all]))
    print(f"\nload average after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
