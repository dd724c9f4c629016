"""A computation to share: its outputs, how often it ran, and what a store then holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from digitflow.storage.cache import Outcome
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store

FORMATS = {"squares": "npy", "summary": "json"}


def key(size: int) -> StageKey:
    """Return the key of the squares of the first numbers."""
    return StageKey("squares", {"tests.py": {"square": "0" * 64}}, {"size": size}, {})


def squares(
    store: Store, size: int = 10, *, run: str = "tests", refresh: bool = False
) -> tuple[Outcome, int]:
    """Obtain the squares; return how, and how often they were computed for that."""
    ran = 0

    def compute(scratch: Path) -> Mapping[str, Any]:
        nonlocal ran
        ran += 1
        numbers = np.arange(size, dtype=np.int64) ** 2
        return {"squares": numbers, "summary": {"sum": int(numbers.sum())}}

    outcome = store.cache.obtain(key(size), "squares", compute, FORMATS, run=run, refresh=refresh)
    return outcome, ran


def values(store: Store, outcome: Outcome) -> tuple[list[int], Any]:
    """Read the outputs back."""
    outputs = outcome.record.outputs
    return store.read(outputs["squares"]).tolist(), store.read(outputs["summary"])
