"""Stage `score`: a stored model on a test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from digitflow.tasks.engine.stage import stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@stage(outputs={"outputs": "npy"})
def score(model: Mapping[str, NDArray[Any]], test_inputs: NDArray[Any]) -> dict[str, Any]:
    """Let a stored model answer on test images that it may never have been judged on."""
    from digitflow.tasks.nn.inference.predict import predict

    return {"outputs": predict(dict(model), test_inputs)}
