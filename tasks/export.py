"""Weights as a file for others. Pure: needs neither Prefect nor storage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.export_error import ExportError


def export(weights: Mapping[str, NDArray[Any]], target: Path) -> None:
    """Write a model to a file that `numpy.load` reads, without pickle.

    Parameters
    ----------
    weights
        What a model version holds: arrays by name, and its architecture as JSON in an array.
    target
        A new file that ends in ``.npz``.

    Raises
    ------
    ExportError
        If the ending is another one, the file exists, or its folder does not.
    """
    if target.suffix != ".npz":
        message = f"--to {target}: expected a file that ends in .npz"
        raise ExportError(message)
    if target.exists():
        message = f"--to {target}: the file exists already; choose another name or remove it"
        raise ExportError(message)
    if not target.parent.is_dir():
        message = f"--to {target}: there is no folder {target.parent}; make it first"
        raise ExportError(message)
    with target.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights)
