"""Weights as a file for others: plain NumPy, or ONNX. Pure; needs neither Prefect nor storage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class ExportError(ValueError):
    """A model cannot be written as asked for."""


def export(weights: Mapping[str, NDArray[Any]], target: Path) -> None:
    """Write a model to a file, in the format that its ending names.

    Parameters
    ----------
    weights
        What a model version holds: arrays by name, and its architecture as JSON in an array.
    target
        A new file, ``.npz`` or ``.onnx``.

    Raises
    ------
    ExportError
        If the ending is another one, the file exists, its folder does not, or the package that
        writes the format is missing.
    """
    if target.suffix not in (".npz", ".onnx"):
        message = f"--to {target}: expected a file that ends in .npz or .onnx"
        raise ExportError(message)
    if target.exists():
        message = f"--to {target}: the file exists already; choose another name or remove it"
        raise ExportError(message)
    if not target.parent.is_dir():
        message = f"--to {target}: there is no folder {target.parent}; make it first"
        raise ExportError(message)
    if target.suffix == ".onnx":
        target.write_bytes(_as_onnx(weights))
        return
    with target.open("wb") as file:
        np.savez(file, allow_pickle=False, **weights)


def _as_onnx(weights: Mapping[str, NDArray[Any]]) -> bytes:
    try:
        from tasks.onnx_graph import to_onnx
    except ImportError as error:
        message = f"ONNX needs a package that is not installed: pip install 'digitflow[onnx]' ({error})"
        raise ExportError(message) from error
    return to_onnx(weights)
