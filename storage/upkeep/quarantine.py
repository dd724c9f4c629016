"""Remove files beside runs that may begin to use them at that very moment.

Whoever uses a file touches it. Whoever removes one moves it aside first, looks at it there, and
puts it back if it was touched meanwhile. In between, for some microseconds, it is missing from
its place. So each such step is taken under a lock, and whoever misses a file while there is
something aside waits for the step to end and looks again. A remover that is killed leaves its
file aside; the next one, or the next to miss it, puts it back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from digitflow.storage.backends.atomic import make_folder, remove
from digitflow.storage.backends.locks import briefly


def remove_unless(root: Path, path: Path, needed: Callable[[Path], bool]) -> bool:
    """Remove a file or a folder below `root`, unless it proves to be needed.

    Parameters
    ----------
    root
        Folder of the store.
    path
        What to remove.
    needed
        Told the place where it lies meanwhile; says whether it must stay.

    Returns
    -------
    bool
        Whether it was removed.
    """
    with _step(root):
        _restore(root)
        aside = _aside(root) / path.relative_to(root)
        make_folder(aside.parent)
        try:
            path.rename(aside)
        except FileNotFoundError:
            return False
        if needed(aside):
            _put_back(aside, path)
            return False
        remove(aside)
        return True


def settle(root: Path) -> None:
    """Return when nothing is aside any more: what is missing then, is missing."""
    if not any(_files(root)):
        return
    with _step(root):
        _restore(root)


def _restore(root: Path) -> None:
    for file in list(_files(root)):
        _put_back(file, root / file.relative_to(_aside(root)))


def _put_back(aside: Path, path: Path) -> None:
    if path.exists():  # made again meanwhile
        remove(aside)
        return
    make_folder(path.parent)
    aside.rename(path)


def _files(root: Path) -> Iterator[Path]:
    return (path for path in _aside(root).rglob("*") if not path.is_dir())


def _aside(root: Path) -> Path:
    return root / "aside"


@contextmanager
def _step(root: Path) -> Iterator[None]:
    locks = root / "locks"
    make_folder(locks)
    with briefly(locks / "aside.lock", "a file that a sweep looks at"):
        yield
