"""Prediction throughput of the presets' networks against PyTorch, in turn (A B A B …).

    python benchmarks/predict.py --threads 1

Both sides take uint8 images and give outputs. Bar: at least as many images a second as PyTorch
at every batch size. Where PyTorch is missing only NumPy's column is printed. With one thread
CPU time is compared, otherwise wall time.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kernels import kernel_name, use_own_kernels, with_threads  # noqa: E402
from benchmarks.measure import MOST_SECONDS  # noqa: E402

PRESETS = ("mlp", "cnn")
BATCHES = (1, 128, 10_000)


def numpy_side(preset: str) -> Callable[[Any], Any]:
    from digitflow.tasks.nn.network import Network
    from digitflow.tasks.nn.presets import PRESETS as SETTINGS
    from digitflow.tasks.nn.randomness import Randomness
    from digitflow.tasks.nn.settings import TrainingSettings
    from digitflow.tasks.nn.training.train import assemble

    settings = TrainingSettings(**SETTINGS[preset])
    shape = (1, 28, 28) if settings.convolution_channels else (784,)
    layers = assemble(settings, 28, 28, 10)
    return Network(layers, shape, randomness=Randomness.from_seed(0)).predict


def torch_side(preset: str, threads: int) -> Callable[[Any], Any]:
    import torch
    from torch import nn

    from digitflow.tasks.nn.presets import PRESETS as SETTINGS
    from digitflow.tasks.nn.settings import TrainingSettings

    torch.set_num_threads(threads)
    settings = TrainingSettings(**SETTINGS[preset])
    layers: list[nn.Module] = []
    channels, side = 1, 28
    for outputs in settings.convolution_channels:
        layers.append(nn.Conv2d(channels, outputs, settings.kernel_size, padding="same"))
        layers.append(nn.ReLU())
        channels = outputs
        if side >= 4:
            layers.append(nn.MaxPool2d(2))
            side //= 2
    layers.append(nn.Flatten())
    width = channels * side * side
    for outputs in settings.hidden_sizes:
        layers += [nn.Linear(width, outputs), nn.ReLU()]
        width = outputs
    layers.append(nn.Linear(width, 10))
    model = nn.Sequential(*layers).eval()

    def predict(images: Any) -> Any:
        with torch.inference_mode():
            x = torch.from_numpy(images).unsqueeze(1).float().mul_(1 / 255)
            return model(x)

    return predict


def measure(preset: str, batch: int, threads: int) -> None:
    import numpy as np

    clock = time.process_time if threads == 1 else time.perf_counter
    images = np.random.default_rng(0).integers(0, 256, (batch, 28, 28), dtype=np.uint8)
    sides = [numpy_side(preset)]
    if importlib.util.find_spec("torch") is not None:
        sides.append(torch_side(preset, threads))
    calls = max(1, 2_000 // batch)
    rates: list[list[float]] = [[] for _ in sides]
    for repeat in range(8):
        for rate, predict in zip(rates, sides, strict=True):
            time.sleep(0.2)
            start = clock()
            for _ in range(calls):
                predict(images)
            if repeat:
                rate.append(calls * batch / (clock() - start))
    medians = [statistics.median(rate) for rate in rates]
    shown = " | ".join(f"{median:,.0f}" for median in medians)
    ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) == 2 else "PyTorch is not installed"
    print(f"| {preset} | {batch} | {shown} | {ratio} |", flush=True)


def main() -> None:
    use_own_kernels()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        measure(arguments.case[0], int(arguments.case[1]), arguments.threads)
        return
    load = os.getloadavg()[0]
    print(f"load average before: {load:.2f}; threads: {arguments.threads}; {kernel_name()}")
    print("| preset | batch | NumPy images/s | PyTorch images/s | ratio (bar ≥ 1) |")
    print("|---|---|---|---|---|", flush=True)
    environment = with_threads(arguments.threads)
    for preset in PRESETS:
        for batch in BATCHES:
            command = [sys.executable, __file__, "--threads", str(arguments.threads)]
            command += ["--case", preset, str(batch)]
            subprocess.run(command, env=environment, check=True, timeout=MOST_SECONDS)


if __name__ == "__main__":
    main()
