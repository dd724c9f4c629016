"""Write whole or not at all: temporary file, fsync, rename."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, if they are missing: as open as where they lie.

    Below a folder that hands down its group (``chmod g+s``) the group may do what it may there,
    whatever the umask of whoever comes first; what others may do, there and below a folder that
    others may write in, the umask decides. Anywhere else, and in ``/tmp``, a new folder is its
    owner's alone.
    """
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make_folder(folder.parent)
    above = folder.parent.stat().st_mode
    is_shared = above & (stat.S_ISGID | 0o022) and not above & stat.S_ISVTX
    try:
        folder.mkdir(0o777 if is_shared else 0o700)
    except FileExistsError:
        return
    if above & stat.S_ISGID:
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | above & stat.S_IRWXG)


@contextmanager
def temporary_file(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Yield the path of a new empty file in `folder`; it is gone afterwards unless moved away.

    Parameters
    ----------
    folder
        Must lie on the file system of the final place, so that the move is one rename.
    suffix
        Ending of the file's name.
    """
    make_folder(folder)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".tmp-", suffix=suffix)
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def commit_file(temporary: Path, target: Path) -> None:
    """Move `temporary` to `target` so that a crash leaves the old file or the new one.

    A folder in the target's place is damage, and goes.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    make_folder(target.parent)
    if target.is_dir() and not target.is_symlink():  # no rename replaces a folder
        remove(target)
    temporary.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable. Does nothing where folders cannot be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows: the rename is journalled there
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all."""
    with temporary_file(path.parent) as temporary:
        temporary.write_bytes(data)
        temporary.chmod(0o644)
        commit_file(temporary, path)


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
