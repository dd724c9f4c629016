"""Make everything below a folder look older than it is."""

import os
from pathlib import Path

from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import sweep


def age(root: Path, days: float = 100) -> None:
    """Set the time of every file below `root` back by so many days."""
    for path in root.rglob("*"):
        then = path.stat().st_mtime - days * 86_400
        os.utime(path, (then, then))


def sweep_all(store: Store) -> int:
    """Sweep what this machine keeps; return how many things went."""
    return len(sweep(store, 30).items)
