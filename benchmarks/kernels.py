"""Which of OpenBLAS's kernels NumPy multiplies with: those of this processor, and no others."""

import ctypes
import os
import sys
from pathlib import Path

# With these somebody can make OpenBLAS use another processor's kernels, at half the speed.
FORCING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def use_own_kernels(threads: int | None = None) -> None:
    """Start the benchmark again without `FORCING`, if the environment has any of it.

    OpenBLAS reads the environment when it is loaded, so that changing it here would be too late.

    Parameters
    ----------
    threads
        Number of OpenBLAS's threads, if the environment names none.
    """
    environment = {name: text for name, text in os.environ.items() if name not in FORCING}
    if threads is not None:
        environment.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    if environment == dict(os.environ):
        return
    for name in FORCING:
        if name in os.environ:
            print(f"not used: {name}={os.environ[name]}", file=sys.stderr)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def with_threads(count: int) -> dict[str, str]:
    """Return the environment of a process whose numerical libraries use so many threads each."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, str(count))}


def kernel_name() -> str:
    """Return the name of the kernels that NumPy's own OpenBLAS has chosen, such as SkylakeX."""
    import numpy as np

    folder = Path(np.__file__).resolve().parent
    for library in sorted(
        [*folder.parent.glob("numpy.libs/*openblas*"), *folder.glob(".dylibs/*")]
    ):
        name = getattr(ctypes.CDLL(str(library)), "scipy_openblas_get_corename64_", None)
        if name is not None:
            name.restype = ctypes.c_char_p
            return str(name().decode())
    return "unknown kernels"
