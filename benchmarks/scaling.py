"""How time and memory of the `mlp` preset grow with the number of images.

    python benchmarks/scaling.py

The images are written to temporary .npy files and memory-mapped, as the pipeline does it. Bars:
an epoch of 60,000 images takes at most 10.5 times as long as one of 6,000, and the peak memory
of the whole process stays below 400 MB. CPU time, one thread.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kernels import kernel_name, use_own_kernels, with_threads  # noqa: E402
from benchmarks.measure import MOST_SECONDS  # noqa: E402

SIZES = (6_000, 60_000)
EPOCHS = 3


def measure(images: int) -> None:
    import numpy as np

    from digitflow.tasks.nn.presets import PRESETS
    from digitflow.tasks.nn.settings import TrainingSettings
    from digitflow.tasks.nn.training.reports import EpochReport
    from digitflow.tasks.nn.training.train import train_network

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        arrays = []
        for name, n in (("training", images), ("test", images // 6)):
            pixels = np.lib.format.open_memmap(
                Path(folder, f"{name}-images.npy"), "w+", np.uint8, (n, 28, 28)
            )
            for start in range(0, n, 1000):
                pixels[start : start + 1000] = rng.integers(0, 256, (1000, 28, 28), np.uint8)
            pixels.flush()
            del pixels
            np.save(Path(folder, f"{name}-labels.npy"), rng.integers(0, 10, n))
            for kind in ("images", "labels"):
                path = Path(folder, f"{name}-{kind}.npy")
                arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
        seconds, last = [], [time.process_time()]

        def note(report: EpochReport) -> None:
            now = time.process_time()
            seconds.append(now - last[0])
            last[0] = now

        settings = TrainingSettings(
            **{**PRESETS["mlp"], "epochs": EPOCHS, "validation_size": images // 12}
        )
        train_network(*arrays, settings=settings, progress=note)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(seconds), "peak": peak}))


def main() -> None:
    use_own_kernels()
    if len(sys.argv) > 1:
        measure(int(sys.argv[1]))
        return
    environment = with_threads(1)
    results = []
    for size in SIZES:
        command = [sys.executable, __file__, str(size)]
        output = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, timeout=MOST_SECONDS
        )
        results.append(json.loads(output.stdout))
    small, large = results
    print(
        f"epoch of {SIZES[0]:,} images {small['seconds']:.3f} s, of {SIZES[1]:,} "
        f"{large['seconds']:.3f} s of CPU: {large['seconds'] / small['seconds']:.2f} times "
        f"(bar 10.5); peak memory {large['peak']:.0f} MB (bar 400); {kernel_name()}"
    )


if __name__ == "__main__":
    main()
