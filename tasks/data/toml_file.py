"""A TOML file that somebody named: read in bounded time and memory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

# A manifest of a thousand classes with long names has a tenth of it. Reading takes a hundred times
# as much memory, and Python's parser some seconds for a million lines.
MAX_TOML_BYTES = 1024**2


def read_toml_file(path: Path) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, is larger than `MAX_TOML_BYTES`, or is none.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TOML_BYTES + 1)
    if len(data) > MAX_TOML_BYTES:
        message = f"expected at most {MAX_TOML_BYTES:,} bytes, found more"
        raise ValueError(message)
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        message = "expected tables and lists a few levels deep, found hundreds"
        raise ValueError(message) from None
