"""digitflow: a retraining pipeline for digit classifiers, in NumPy on Prefect.

>>> from digitflow import stage, plan

makes functions cacheable stages and says what calling them would do: see ``docs/stages.md``.

>>> from digitflow import run, Model

trains, and predicts with what was trained: see `run` and `Model`. `gate` judges what stages of
your own have trained. `Store` is where all of it lies. Nothing is loaded before it is used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitflow.flows.direct import run
    from digitflow.flows.gate import gate
    from digitflow.storage.store import Store
    from digitflow.tasks.engine.plan import plan
    from digitflow.tasks.engine.stage import stage
    from digitflow.tasks.prediction.model import Model

__all__ = ["Model", "Store", "gate", "plan", "run", "stage"]

_PLACES = {
    "Model": ("digitflow.tasks.prediction.model", "Model"),
    "Store": ("digitflow.storage.store", "Store"),
    "gate": ("digitflow.flows.gate", "gate"),
    "plan": ("digitflow.tasks.engine.plan", "plan"),
    "run": ("digitflow.flows.direct", "run"),
    "stage": ("digitflow.tasks.engine.stage", "stage"),
}


def __getattr__(name: str) -> Any:
    """Load what is asked for, once."""
    if name == "__version__":
        try:
            return version("digitflow")
        except PackageNotFoundError:  # a checkout that was not installed
            return "unknown"
    if name not in _PLACES:
        message = f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}"
        raise AttributeError(message)
    module, attribute = _PLACES[name]
    found = globals()[name] = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
