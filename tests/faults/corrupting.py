"""Damage one file: every way in which a disk, a person or a program does."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from digitflow.storage.backends.atomic import remove

Damage = Callable[[Path], None]


def flip(path: Path) -> None:
    """Flip one bit in the middle; size and time stay, as with a rotten disk."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _overwrite(path, bytes(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    """Cut the second half off, as a crash of the machine may."""
    content = path.read_bytes()
    _overwrite(path, content[: len(content) // 2])


def empty(path: Path) -> None:
    """Leave nothing of it but its name."""
    _overwrite(path, b"")


def replace_by_folder(path: Path) -> None:
    """Put a folder with something in it in its place."""
    path.unlink()
    path.mkdir()
    (path / "stray").write_text("no object")


DAMAGES: Mapping[str, Damage] = {
    "flipped": flip,
    "truncated": truncate,
    "emptied": empty,
    "deleted": remove,
    "a folder": replace_by_folder,
}


def objects(store: Path) -> Iterator[Path]:
    """Iterate over the objects of a store."""
    return (path for path in sorted(store.glob("objects/??/*")) if path.is_file())


def records(store: Path) -> Iterator[Path]:
    """Iterate over the records of stages."""
    return iter(sorted(store.glob("records/*/*.json")))


def runs(store: Path) -> Iterator[Path]:
    """Iterate over the records of runs."""
    return iter(sorted(store.glob("runs/*.json")))


def _overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)  # objects are read-only
    path.write_bytes(content)
