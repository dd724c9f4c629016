"""One round of coverage-guided fuzzing: ``python -m tests.fuzz.worker TARGET [libFuzzer …]``.

Runs as a process of its own, because libFuzzer takes over the process and ends it, and because
the process may not take more memory than a reader is allowed.
"""

import faulthandler
import os
import re
import resource
import sys
import tempfile
from pathlib import Path

import atheris

# The modules that read what a target is given: coverage of others would only cost time, and
# makes each start take seconds.
_RECORD = (
    "json.decoder",
    "digitflow.storage.documents",
    "digitflow.storage.fields",
    "digitflow.storage.digests",
    "digitflow.storage.formats.artifacts",
)
_READERS = {
    "idx": (
        "digitflow.tasks.data.idx.arrays",
        "digitflow.tasks.data.idx.header",
    ),
    "manifest": (
        "tomllib._parser",
        "digitflow.tasks.data.datasets.manifest",
        "digitflow.tasks.data.datasets.dataset",
    ),
    "record": (
        *_RECORD,
        "digitflow.storage.records",
        "digitflow.storage.keys",
        "digitflow.flows.cli.render",
    ),
    "run": (
        *_RECORD,
        "digitflow.storage.history.runs",
        "digitflow.flows.cli.history",
    ),
    "npy": ("digitflow.storage.formats.arrays", "numpy.lib._format_impl"),
    "npz": ("digitflow.storage.formats.arrays", "numpy.lib._format_impl", "zipfile"),
    "table": (
        "json.decoder",
        "digitflow.storage.formats.archives",
        "digitflow.storage.formats.arrays",
        "digitflow.storage.formats.tables",
    ),
    "csv": ("digitflow.storage.formats.tables", "pandas.io.parsers.readers"),
    "json": ("digitflow.storage.formats.artifacts", "json.decoder"),
    "png": ("digitflow.storage.formats.artifacts",),
    "text": ("digitflow.storage.formats.artifacts",),
    "folder": (
        "digitflow.storage.formats.archives",
        "digitflow.storage.formats.folders",
        "zipfile",
    ),
}
_TARGET = sys.argv[1]

with atheris.instrument_imports(
    include=[*_READERS.get(_TARGET, ()), "tests.fuzz.planted"], enable_loader_override=False
):
    from tests.fuzz.mutations import mutate
    from tests.fuzz.planted import PLANTED
    from tests.fuzz.targets import JSON_TARGETS, LONGEST_INPUT, MEMORY_LIMIT, TARGETS
    from tests.patience import PATIENCE

# The allocator and libFuzzer reserve addresses of their own beside what a reader takes.
_RESERVED = 64 * 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main(flags: list[str]) -> None:
    """Fuzz until the libFuzzer flags say that it is enough, or something is found."""
    target = {**TARGETS, **PLANTED}[_TARGET]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="digitflow-fuzz-", dir=memory) as folder:

        def read(data: bytes) -> None:
            target(data, Path(folder))

        for seed in _some_seeds(flags):
            read(seed)  # imports what the reader imports, before memory is counted
        own = {"custom_mutator": mutate} if _TARGET in JSON_TARGETS else {}
        atheris.Setup([sys.argv[0], f"-max_len={LONGEST_INPUT}", *flags], read, **own)
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * _PAGE
        limit = taken + MEMORY_LIMIT + _RESERVED
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        timed = re.search(r"-max_total_time=(\d+)", " ".join(flags))
        # libFuzzer looks at the clock between inputs only: a reader that hangs is shown, long
        # before whoever started this gives it up.
        seconds = PATIENCE / 2 + (int(timed[1]) if timed else 0)
        faulthandler.dump_traceback_later(seconds, exit=True)
        atheris.Fuzz()


def _some_seeds(flags: list[str]) -> list[bytes]:
    folders = [Path(each) for each in flags if not each.startswith("-")]
    return [seed.read_bytes() for folder in folders for seed in sorted(folder.glob("*"))[:3]]


if __name__ == "__main__":
    main(sys.argv[2:])
