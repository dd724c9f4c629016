"""The tutorial's own loop against `tasks.nn.tutorial`, in turn, with a comparison of the bits.

    python benchmarks/tutorial.py --epochs 20

The loop below is written as the tutorial writes it. The images are random bytes with MNIST's
share of ink, of which the time depends a little; `--data` takes a folder with MNIST itself.
Bar: 2.5 times as fast, with identical weights.
"""

import argparse
import gzip
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kernels import kernel_name, use_own_kernels  # noqa: E402 - found by now
from digitflow.tasks.nn.tutorial import train_tutorial  # noqa: E402


def relu(x: Any) -> Any:
    return (x >= 0) * x


def relu2deriv(output: Any) -> Any:
    return output >= 0


def tutorial_loop(
    training_images: Any, training_labels: Any, test_images: Any, test_labels: Any, epochs: int
) -> tuple[Any, Any]:
    seed = 884736743
    rng = np.random.default_rng(seed)
    learning_rate = 0.005
    hidden_size = 100
    pixels_per_image = training_images.shape[1]
    num_labels = 10
    weights_1 = 0.2 * rng.random((pixels_per_image, hidden_size)) - 0.1
    weights_2 = 0.2 * rng.random((hidden_size, num_labels)) - 0.1
    for _ in range(epochs):
        training_loss = 0.0
        training_accurate_predictions = 0
        for i in range(len(training_images)):
            layer_0 = training_images[i]
            layer_1 = np.dot(layer_0, weights_1)
            layer_1 = relu(layer_1)
            dropout_mask = rng.integers(low=0, high=2, size=layer_1.shape)
            layer_1 *= dropout_mask * 2
            layer_2 = np.dot(layer_1, weights_2)
            training_loss += np.sum((training_labels[i] - layer_2) ** 2)
            training_accurate_predictions += int(
                np.argmax(layer_2) == np.argmax(training_labels[i])
            )
            layer_2_delta = training_labels[i] - layer_2
            layer_1_delta = np.dot(weights_2, layer_2_delta) * relu2deriv(layer_1)
            layer_1_delta *= dropout_mask
            weights_1 += learning_rate * np.outer(layer_0, layer_1_delta)
            weights_2 += learning_rate * np.outer(layer_1, layer_2_delta)
        results = relu(test_images @ weights_1) @ weights_2
        np.sum((test_labels - results) ** 2)
        np.sum(np.argmax(results, axis=1) == np.argmax(test_labels, axis=1))
    return weights_1, weights_2


def load(folder: Path | None) -> list[Any]:
    arrays = []
    rng = np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        if folder is None:
            images = rng.integers(1, 256, (1000, 784)) * (rng.random((1000, 784)) < 0.19)
            labels = rng.integers(0, 10, 1000)
        else:
            with gzip.open(folder / f"{prefix}-images-idx3-ubyte.gz") as file:
                images = np.frombuffer(file.read(16 + 784_000), np.uint8, offset=16)
            with gzip.open(folder / f"{prefix}-labels-idx1-ubyte.gz") as file:
                labels = np.frombuffer(file.read(8 + 1000), np.uint8, offset=8)
        arrays += [images.reshape(1000, 784) / 255, np.eye(10)[labels]]
    return arrays


def as_stored(array: Any) -> Any:
    """Return scaled images as bytes (n, 28, 28), and one-hot rows as class numbers."""
    if array.shape[1] == 10:
        return array.argmax(axis=1)
    return np.rint(array * 255).astype(np.uint8).reshape(-1, 28, 28)


def main() -> None:
    use_own_kernels()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder with MNIST's gzipped IDX files")
    arguments = parser.parse_args()
    data = load(arguments.data)
    # The same as bytes and class numbers, which is what our trainings take.
    stored = [as_stored(array) for array in data]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(arguments.repeats):
        start = time.process_time()
        weights = tutorial_loop(*data, arguments.epochs)
        seconds[0].append(time.process_time() - start)
        start = time.process_time()
        result = train_tutorial(*stored, classes=10, epochs=arguments.epochs)
        seconds[1].append(time.process_time() - start)
        same = all(
            np.array_equal(ours, theirs)
            for ours, theirs in zip(result.weights.values(), weights, strict=True)
        )
        if not same:
            sys.exit("The weights differ.")
    plain, fast = (statistics.median(side) for side in seconds)
    print(
        f"plain loop {plain:.2f} s, tasks.nn.tutorial {fast:.2f} s of CPU: {plain / fast:.2f} "
        f"times as fast (bar 2.5), weights identical to the last bit; {kernel_name()}"
    )


if __name__ == "__main__":
    main()
