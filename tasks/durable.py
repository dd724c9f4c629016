"""Files of the pure rooms, written whole or not at all: temporary file, fsync, rename.

What the store keeps, it writes itself (`storage.backends.atomic`); the pure rooms do not know it.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unfinished_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` to write to; it becomes `target` if the block ends well.

    The folder of `target` is made if it is missing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}.unfinished")
    try:
        yield unfinished
        rename_durably(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def rename_durably(finished: Path, target: Path) -> None:
    """Flush `finished` to disk, then rename it to `target`, on the same file system.

    A crash leaves the old file or the whole new one.
    """
    with finished.open("rb+") as file:
        os.fsync(file.fileno())
    finished.replace(target)
    if os.name == "posix":  # elsewhere folders cannot be opened, and renames are journalled
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
