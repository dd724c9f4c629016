"""The pipeline's memory does not grow with the data: all of it, from gzip to figures."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.mnist import ROOT
from tests.patience import PATIENCE

STEP = 10_000  # images
MEGABYTE = 2**20

# The peak of this program alone: what `getrusage` says begins with the peak of whoever starts it.
WALK = """
import sys
from pathlib import Path
from digitflow.storage.store import Store
from digitflow.tasks.parameters import resolve
from digitflow.tasks.data.datasets.directory import from_directory
from tests.walk import walk
small = {"epochs": 1, "hidden_sizes": "8", "validation_size": 1000}
walk(Store(Path(sys.argv[1])), from_directory(sys.argv[2]), resolve("quick", small))
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def write_large(folder: Path, steps: int) -> Path:
    """Write `steps` times the same 10,000 training images, in as many gzip members."""
    rng = np.random.default_rng(0)
    # Mostly black, as digits are.
    images = rng.integers(0, 256, (STEP, 28, 28), np.uint8) * (rng.random((STEP, 28, 28)) < 0.1)
    labels = np.resize(np.arange(10, dtype=np.uint8), STEP)
    folder.mkdir()
    for name, times in (("train", steps), ("t10k", 1)):
        for kind, code, array in (("images-idx3", 0x803, images), ("labels-idx1", 0x801, labels)):
            start = struct.pack(f">{array.ndim + 1}I", code, times * STEP, *array.shape[1:])
            member = gzip.compress(array.tobytes(), 1)
            whole = gzip.compress(start) + times * member
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(whole)
    return folder


def peak(tmp_path: Path, steps: int) -> int:
    """Walk the whole pipeline; return the most memory that it held, in bytes."""
    store = tmp_path / f"store-{steps}"
    data = write_large(tmp_path / f"data-{steps}", steps)
    done = subprocess.run(
        [sys.executable, "-c", WALK, str(store), str(data)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return int(done.stdout.split()[-1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_data(tmp_path: Path):
    small, large = peak(tmp_path, 1), peak(tmp_path, 40)
    # The second has 306 MB of pixels more.
    assert large - small < 40 * MEGABYTE, f"{small / MEGABYTE:.0f} → {large / MEGABYTE:.0f} MB"
