"""`digitflow` in this process, and what it cost, as JSON in the last line.

That is bytes hashed and read, files of the store that it opened, and CPU seconds from the
interpreter's start on.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

_STORE = os.environ.get("DIGITFLOW_STORE", "/")
hashed = opened = 0


class Counting:
    """A hash that counts what it is given."""

    def __init__(self, data: bytes = b"", **options: Any) -> None:
        self._hash = _SHA256(b"", **options)
        self.update(data)

    def update(self, data: Any) -> None:
        """Hash and count."""
        global hashed
        hashed += memoryview(data).nbytes
        self._hash.update(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hash, name)


def _counting_file_digest(file: Any, name: str, /, **options: Any) -> Any:
    global hashed
    digest = _FILE_DIGEST(file, name, **options)
    hashed += os.fstat(file.fileno()).st_size
    return digest


def _count_opened(event: str, arguments: tuple[Any, ...]) -> None:
    global opened
    opened += event == "open" and str(arguments[0]).startswith(_STORE)


def _bytes_read() -> int:
    """What this process was given by read calls, files and pipes alike."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


_SHA256, _FILE_DIGEST = hashlib.sha256, hashlib.file_digest
hashlib.sha256, hashlib.file_digest = Counting, _counting_file_digest  # type: ignore


def main() -> int:
    """Run, then print the counts."""
    from digitflow.flows.cli.app import main as digitflow

    before = _bytes_read()
    sys.addaudithook(_count_opened)
    code = digitflow(sys.argv[1:])
    counts = {
        "hashed": hashed,
        "read": _bytes_read(),
        "read_before": before,
        "opened": opened,
        "cpu": time.process_time(),
    }
    print(json.dumps(counts), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
