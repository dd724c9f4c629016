"""A model version as a file for others: ``.npz`` for NumPy, ``.onnx`` for everything else.

Light until something is written, so that the command line can name its error.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from digitflow.storage.backends.atomic import write_bytes
from digitflow.storage.history.models import ModelVersion
from digitflow.tasks.reporting.results import installed_version

if TYPE_CHECKING:
    from numpy.typing import NDArray

Weights: TypeAlias = "Mapping[str, NDArray[Any]]"


class ExportError(ValueError):
    """A model cannot be written as asked for."""


def export(weights: Weights, model: ModelVersion, target: Path) -> None:
    """Write a model to a file that needs no digitflow; docs/export.md says how to use it.

    Parameters
    ----------
    weights
        What the model version holds: arrays by name, and its architecture as JSON in an array.
    model
        The version itself: its number, classes and digests go into the ONNX file.
    target
        A new file that ends in ``.npz`` or ``.onnx``.

    Raises
    ------
    ExportError
        If the ending is another one, the file exists, its folder does not, the package onnx is
        missing, or the model is of a flow of one's own.
    """
    if not model.is_of_images:
        message = (
            f"expected a classifier of images, found version {model.version} of {model.model}: "
            "only the flow that trained it knows its form"
        )
        raise ExportError(message)
    if target.suffix not in _WRITERS:
        message = f"--to {target}: expected a file that ends in {' or '.join(_WRITERS)}"
        raise ExportError(message)
    if target.exists():
        message = f"--to {target}: the file exists already; choose another name, or remove it"
        raise ExportError(message)
    if not target.parent.is_dir():
        message = f"--to {target}: there is no folder {target.parent}; create it first"
        raise ExportError(message)
    write_bytes(target, _WRITERS[target.suffix](weights, model))


def _npz(weights: Weights, _model: ModelVersion) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **weights)
    return file.getvalue()


def _onnx(weights: Weights, model: ModelVersion) -> bytes:
    from digitflow.tasks.nn.inference.onnx import to_onnx

    try:
        made = to_onnx(
            weights,
            loss=model.parameters["loss"],
            producer_version=installed_version("digitflow") or "",
            version=model.version,
            about=_about(model),
        )
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        message = "an .onnx file needs the package onnx: pip install 'digitflow[onnx]'"
        raise ExportError(message) from error
    data: bytes = made.SerializeToString(deterministic=True)
    return data


_WRITERS = {".npz": _npz, ".onnx": _onnx}


def _about(model: ModelVersion) -> dict[str, str]:
    return {
        "class_names": json.dumps(model.class_names, ensure_ascii=False),
        "model_version": str(model.version),
        "dataset": model.dataset,
        "preset": model.preset,
        "run": model.run,
        "created": model.created,
        "metrics": json.dumps(dict(model.metrics)),
        "training": model.training,
        "weights_sha256": model.weights.sha256,
        **{f"{name}_sha256": digest for name, digest in model.data.items()},
        **({} if model.form is None else {"form": json.dumps(dict(model.form))}),
        **({} if model.image_size is None else {"image_size": json.dumps(model.image_size)}),
    }
