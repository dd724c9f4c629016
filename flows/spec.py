"""What a run is asked to do: as options, and parsed once into values.

`RunOptions` are what the command line, `prefect.yaml` and the UI's run form all take. They are
flat, one value a name, because nested values replace each other whole where a deployment's
parameters and a caller's are merged. The flow's signature and its description of each parameter
are made from `tasks.parameters.Parameters`, so that they cannot drift apart.

`RunSpec` is what they mean: the dataset, not its name. It is made once, at the edge, and handed
on; whatever happens to a name afterwards, a run goes by what was found then.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from digitflow.flows.sample_sizes import check_sample_sizes
from digitflow.flows.selection import Selection, StageName
from digitflow.storage.history.runs import run_name
from digitflow.tasks.data.datasets.places import check_place, display
from digitflow.tasks.data.datasets.sources import DEFAULT_DATASET, Dataset, find
from digitflow.tasks.gate.approval import When
from digitflow.tasks.parameters import (
    DEFAULT_PRESET,
    MOST_USED,
    PARAMETER_NAMES,
    ParameterError,
    Parameters,
    allowed,
    as_typed,
    resolve,
)

Result = TypeVar("Result")

MOST_WORKERS = 1_024
_spec: ContextVar[RunSpec | None] = ContextVar("digitflow_spec", default=None)

PresetName = Literal[
    "tutorial", "mlp", "cnn", "quick"
]  # the names of PRESETS; a test compares them

MEANINGS = {
    "dataset": "Name of a dataset (see digitflow dataset list), manifest (FILE.toml), or directory "
    "with the four IDX files.",
    "preset": "Preset to start from.",
    "mirror": "URL prefix or directory to try first for the dataset's files.",
    "refresh": "Stages to run again even if they are cached.",
    "from_stage": "Run this stage again, and everything after it.",
    "until": "Last stage to run.",
    "workers": "Processes that train in parallel if there are several networks to train. "
    "Default: one per core.",
    "scheduler": "Dask scheduler whose workers train them instead, such as tcp://10.0.0.1:8786.",
    "output": "Folder for the results. Default: results/RUN, named after the run.",
}


@dataclass(frozen=True)
class RunOptions:
    """What a run was asked to do.

    Attributes
    ----------
    dataset, preset, mirror, refresh, from_stage, until, workers, scheduler, output
        As the flow's parameters describe them.
    overrides
        Parameters that differ from the preset's.
    """

    dataset: str = DEFAULT_DATASET
    preset: str = DEFAULT_PRESET
    mirror: str | None = None
    refresh: tuple[str, ...] = ()
    from_stage: str | None = None
    until: str | None = None
    workers: int | None = None
    scheduler: str | None = None
    output: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def spec(self) -> RunSpec:
        """Parse the options into values, and check them.

        Where `handing_on` has a spec of the same options, it is that one.

        Raises
        ------
        DatasetError
            If there is no such dataset, or the mirror is neither a URL that can be asked nor a
            directory.
        ParameterError
            If a name or a value is not acceptable, or asks for more images than there are.
        SelectionError
            If a stage is to run again that comes after the last one to run.
        """
        handed_on = _spec.get()
        # By what the flow was given: a mirror's password is not.
        if handed_on is not None and (
            handed_on.options.flow_parameters() == self.flow_parameters()
        ):
            return handed_on
        dataset = find(self.dataset)
        parameters = resolve(self.preset, self.overrides)
        selection = Selection(self.refresh, self.from_stage, self.until)
        # What moves is where it was described, and no other place keeps up with it.
        elsewhere = None if dataset.moving else os.environ.get("DIGITFLOW_MIRROR")
        first = self.mirror or elsewhere
        mirrors = (check_place(first), *dataset.mirrors) if first else dataset.mirrors
        if selection.includes("preprocess"):
            check_sample_sizes(parameters, dataset)
        self._check_workers()
        return RunSpec(dataset, parameters, selection, mirrors, self)

    def _check_workers(self) -> None:
        """Refuse two choices of workers, or an address that is none."""
        if self.workers is not None and self.scheduler is not None:
            message = (
                f"workers {self.workers} and scheduler {self.scheduler}: the scheduler has workers "
                "of its own; choose one of the two"
            )
            raise ParameterError(message)
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            message = f"workers: expected 1 to {MOST_WORKERS:,}, found {self.workers}"
            raise ParameterError(message)
        address = self.scheduler
        if address is not None and not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d+", address):
            message = f"scheduler: expected an address like tcp://10.0.0.1:8786, found {address!r}"
            raise ParameterError(message)

    def flow_parameters(self) -> dict[str, Any]:
        """Return the options as the flow takes them, without those left at their default.

        Prefect keeps them and shows them to all: a mirror is without its credentials.
        """
        flat = {
            each.name: getattr(self, each.name) for each in fields(self) if each.name != "overrides"
        }
        flat["refresh"] = list(self.refresh)
        flat["mirror"] = display(self.mirror) if self.mirror else None
        flat.update(self.overrides)
        return {name: value for name, value in flat.items() if value not in (None, [])}


@dataclass(frozen=True)
class RunSpec:
    """What a run does, in values that nothing looks up or parses again.

    Attributes
    ----------
    dataset
        The data, with the digests that its files had when it was found.
    parameters
        The preset's, with what differs from them.
    selection
        Which stages run, and which run again.
    mirrors
        Where to ask for the dataset's files, in order.
    options
        What was asked for.
    """

    dataset: Dataset
    parameters: Parameters
    selection: Selection = Selection()
    mirrors: tuple[str, ...] = ()
    options: RunOptions = RunOptions()

    @property
    def preset(self) -> str:
        """Name of the preset that the parameters started from."""
        return self.options.preset

    def results_folder(self, run: str) -> Path:
        """Return the folder for the results of a run, absolute."""
        return Path(self.options.output or Path("results") / run_name(run)).expanduser().absolute()


@contextmanager
def handing_on(spec: RunSpec) -> Iterator[None]:
    """Let a flow that is called here with the spec's options take the spec itself."""
    token = _spec.set(spec)
    try:
        yield
    finally:
        _spec.reset(token)


@dataclass(frozen=True)
class Extra:
    """A parameter that a flow takes beside the run options: name, type, default, meaning."""

    name: str
    annotation: Any
    default: Any
    meaning: str


_Share = Annotated[float, Field(ge=0, le=1)]
# What retraining takes beside the options of a run.
GATE = (
    Extra(
        "model",
        str | None,
        None,
        "Named model whose champion is challenged. Default: the dataset's name.",
    ),
    Extra(
        "min_improvement",
        _Share,
        0.0,
        "Minimum gain in accuracy over the champion (0 to 1).",
    ),
    Extra(
        "max_class_drop",
        _Share,
        0.02,
        "Maximum drop in the recall of any class (0 to 1).",
    ),
    Extra("floor", _Share, 0.5, "Minimum accuracy for promotion (0 to 1)."),
    Extra(
        "approval",
        When,
        "never",
        "Whether a person is asked first: where the data is in doubt, or before each promotion.",
    ),
    Extra(
        "approval_hours",
        Annotated[float, Field(gt=0, le=720)],
        24.0,
        "Hours to wait for the person; without an answer the champion stays (up to 720).",
    ),
)


def with_run_options(
    function: Callable[..., Result],
    *,
    extra: Sequence[Extra] = (),
    without: Sequence[str] = (),
) -> Callable[..., Result]:
    """Give a flow's function the flat signature of the run options.

    Parameters
    ----------
    function
        Takes `RunOptions`, and the parameters of `extra` by name.
    extra
        What the flow takes beside them.
    without
        Options that make no sense for this flow.

    Returns
    -------
    callable
        Takes each option and each parameter by name. Its signature carries types and bounds
        and its docstring an ``Args:`` section: Prefect makes the run form from both.
    """
    own = {each.name: each.default for each in extra}

    def flat(**given: Any) -> Result:
        names = {each.name for each in fields(RunOptions)}
        options = {name: value for name, value in given.items() if name in names}
        options["refresh"] = tuple(options.get("refresh") or ())
        overrides = {  # JSON values, as the command line hands them on
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if name in Parameters.model_fields and value is not None
        }
        rest = {name: given.get(name, default) for name, default in own.items()}
        return function(RunOptions(**options, overrides=overrides), **rest)

    dataset, preset, *others = [each for each in _options() if each.name not in without]
    parameters = [  # the run form has this order: what is changed most comes first
        dataset,
        preset,
        *extra,
        *(_parameter(name) for name in MOST_USED),
        *others,
        *(_parameter(name) for name in PARAMETER_NAMES if name not in MOST_USED),
    ]
    listing = "\n".join(f"    {each.name}: {each.meaning}" for each in parameters)
    flat.__name__ = function.__name__
    flat.__qualname__ = function.__qualname__
    flat.__module__ = function.__module__
    flat.__doc__ = f"{inspect.getdoc(function)}\n\nArgs:\n{listing}\n"
    flat.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=each.annotation,
            )
            for each in parameters
        ]
    )
    return flat


def _options() -> list[Extra]:
    types: dict[str, tuple[Any, Any]] = {
        "dataset": (str, DEFAULT_DATASET),
        "preset": (PresetName, DEFAULT_PRESET),
        "mirror": (str | None, None),
        "refresh": (list[StageName], []),
        "from_stage": (StageName | None, None),
        "until": (StageName | None, None),
        "workers": (Annotated[int, Field(ge=1, le=MOST_WORKERS)] | None, None),
        "scheduler": (str | None, None),
        "output": (str | None, None),
    }
    return [Extra(name, *types[name], meaning) for name, meaning in MEANINGS.items()]


def _parameter(name: str) -> Extra:
    described = Parameters.model_fields[name]
    bounds = f" Allowed: {allowed(name)}." if allowed(name) else ""
    default = as_typed(described.default)
    meaning = f"{described.description}{bounds} Default: the preset's, else {default}."
    return Extra(name, _optional(name), None, meaning)


def _optional(name: str) -> Any:
    described = Parameters.model_fields[name]
    if not described.metadata:
        return described.annotation | None  # type: ignore[operator]
    return Annotated[(described.annotation, *described.metadata)] | None
