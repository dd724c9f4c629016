"""Which kernels this processor is given, told without loading NumPy.

BLAS and NumPy choose among several kernels by the vector instructions that the processor has, and
different kernels add in different orders. Measured with OpenBLAS 0.3.31: Haswell and Zen give the
same bytes, and so do SkylakeX and Cooperlake; Sandybridge and Nehalem give others. So the widest
vectors name the class; where that is not known, the processor's model does. With it go the BLAS
that came with NumPy's wheel, and whatever the environment asks of it.
"""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path

# Widest first. All flags of a class must be there.
_CLASSES = (
    ("AVX-512 AMX", {"avx512f", "avx512bw", "avx512vl", "amx_tile"}),
    ("AVX-512", {"avx512f", "avx512bw", "avx512dq", "avx512vl"}),
    ("AVX2", {"avx2", "fma"}),
    ("AVX", {"avx"}),
)
_ASKED = (
    "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES", "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE", "BLIS_ARCH_TYPE", "ATLAS_ARCH",
)  # fmt: skip


def processor(numpy: Path | None) -> str:
    """Return what decides the kernels, such as ``AVX2 libscipy_openblas64_-32a4b2a6``.

    Parameters
    ----------
    numpy
        Folder of the installed NumPy.
    """
    asked = [f"{name}={os.environ[name]}" for name in _ASKED if os.environ.get(name)]
    return " ".join([_vectors(), *_libraries(numpy), *asked])


@cache
def _vectors() -> str:
    machine = platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{machine} {platform.processor()}".strip()
    first = text.partition("\n\n")[0]
    flags = set((re.search(r"^flags\s*:(.*)$", first, re.MULTILINE) or ["", ""])[1].split())
    for name, needed in _CLASSES:
        if needed <= flags:
            return name
    known = (
        "vendor_id",
        "cpu family",
        "model",
        "CPU implementer",
        "CPU part",
        "CPU variant",
        "cpu",
    )
    found = dict(re.findall(r"^(.*?)\s*:\s*(.*)$", first, re.MULTILINE))
    return " ".join([machine, *(found[each] for each in known if each in found)])


@cache
def _libraries(numpy: Path | None) -> tuple[str, ...]:
    """Return the names of the BLAS in NumPy's wheel, which bear a digest of it."""
    if numpy is None:
        return ()
    names: set[str] = set()
    for folder in (numpy.with_name("numpy.libs"), numpy / ".dylibs"):
        if folder.is_dir():
            names |= {each.name.partition(".")[0] for each in folder.iterdir()}
    return tuple(sorted(each for each in names if "blas" in each.lower()))
