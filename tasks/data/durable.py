"""Give a finished file its name so that a crash leaves the old file or the whole new one."""

import os
from pathlib import Path


def rename_durably(finished: Path, target: Path) -> None:
    """Flush `finished` to disk, then rename it to `target`, on the same file system."""
    with finished.open("rb+") as file:
        os.fsync(file.fileno())
    finished.replace(target)
    if os.name == "posix":  # elsewhere folders cannot be opened, and renames are journalled
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
