"""A disk of a given size, and a file system that may only be read."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A file system in memory, mounted for a test.

    Parameters
    ----------
    folder
        Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, size: int) -> None:
        """Make it larger, or smaller as far as its contents allow; in bytes."""
        self._mount(f"remount,rw,size={size}")

    def make_read_only(self) -> None:
        """Refuse every write from now on."""
        self._mount("remount,ro")

    def fill(self, *, leaving: int) -> None:
        """Fill it but for so many bytes with a file that has nothing to do with the store."""
        free = shutil.disk_usage(self.folder).free
        with (self.folder / "somebody-elses-file").open("wb") as file:
            file.write(bytes(max(0, free - leaving)))

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-o", options, self.folder], check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Disk]:
    """Mount a disk of so many bytes while the context lasts; skip the test where one may not."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a file system in memory")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True, capture_output=True)
