"""What must hold of a store whatever has happened to it."""

import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

from digitflow.storage.store import Store
from digitflow.storage.upkeep.gc import sweep
from digitflow.storage.upkeep.verify import find_damage

Outcomes = dict[tuple[str, str], dict[str, str]]


def outcomes(store: Path) -> Outcomes:
    """Return the SHA-256 of every output of every record, by stage and key."""
    cache = Store(store)
    return {
        (record.stage, record.key): {
            name: artifact.sha256 for name, artifact in record.outputs.items()
        }
        for folder in sorted(cache.records.root.glob("*"))
        for record in cache.records.of_stage(folder.name)
    }


def check_sound(store: Path) -> None:
    """Check that nothing is damaged, whoever was killed when."""
    damaged = find_damage(Store(store)).damaged
    assert not damaged, "\n".join(damage.problem for damage in damaged)


def check_free(store: Path) -> None:
    """Check that nobody would wait for a lock."""
    for path in [*(store / "locks").glob("*.lock"), *(store / "live").glob("*.lock")]:
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            raise AssertionError(f"{path} is held, though nobody runs") from None


def check_tidy(store: Path) -> None:
    """Check that, once it is old, a sweep takes all that killed runs left behind."""
    make_old(store)
    cache = Store(store)
    before = outcomes(store)
    sweep(cache, keep_days=30)
    left = [
        path
        for folder in ("scratch", "objects/tmp", "aside", "live")
        for path in (store / folder).rglob("*")
        if not path.is_dir()
    ]
    left += [*store.rglob(".tmp-*")]
    assert not left, left
    assert outcomes(store) == before
    check_sound(store)


def make_old(store: Path, *, hours: float = 2) -> None:
    """Set every time in the store back, as if nothing had been used for so long."""
    then = time.time() - hours * 3600
    for path in [store, *store.rglob("*")]:
        os.utime(path, (then, then), follow_symlinks=False)
