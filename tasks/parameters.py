"""Run parameters: every one that can be set, with its bounds, its default and what it means.

The command line, the deployments and the run form of the Prefect UI all take these, by these
names. A preset is a short list of values that differ from the defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Field, ValidationError, field_validator, model_validator

from digitflow.tasks.data.toml_file import read_toml_file
from digitflow.tasks.nn.presets import PRESETS as NETWORK_PRESETS
from digitflow.tasks.nn.settings import TrainingSettings

DEFAULT_PRESET = "tutorial"

# The tutorial's network in the words of the settings. Its code is its own, bit for bit, so that
# only these can be changed there: sizes, learning rate, epochs and seed.
TUTORIAL: Mapping[str, Any] = MappingProxyType(
    {
        "network": "tutorial",
        "training_sample": 1_000,
        "test_sample": 1_000,
        "standardization": False,
        "hidden_sizes": (100,),
        "bias": False,
        "initialization": "tutorial",
        "dropout": 0.5,
        "dtype": "float64",
        "loss": "squared_error",
        "epochs": 20,
        "batch_size": 1,
        "optimizer": "sgd",
        "learning_rate": 0.005,
        "momentum": 0.0,
        "schedule": "constant",
        "validation_size": 0,
        "seed": 884_736_743,
    }
)

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {DEFAULT_PRESET: TUTORIAL, **NETWORK_PRESETS}
)

_BASE_OF_A_FILE = "mlp"
_TUTORIAL_TAKES = ("hidden_sizes", "learning_rate", "epochs", "seed", "relu_derivative")

# What does not go with the tutorial's other settings, and what is a good start beside it.
_NEEDED_BESIDE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "patience": {"validation_size": 200},
        "batch_normalization": {"batch_size": 32},
        "nesterov": {"momentum": 0.9},
        "global_average_pooling": {"convolution_channels": (8,)},
    }
)

# Names that others have for a parameter and that are not spelt like it.
_OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "conv": "convolution_channels",
        "early_stopping": "patience",
        "filters": "convolution_channels",
        "l2": "weight_decay",
        "layers": "hidden_sizes",
        "lr": "learning_rate",
        "samples": "training_sample",
    }
)


class Parameters(TrainingSettings):
    """What decides a run's result, beside the data and the code."""

    training_sample: Annotated[
        int, Field(ge=0, le=100_000_000, description="Training images to use; 0 for all.")
    ] = 0
    test_sample: Annotated[
        int, Field(ge=0, le=100_000_000, description="Test images to use; 0 for all.")
    ] = 0
    network: Annotated[
        Literal["layers", "tutorial"],
        Field(description="Layers as set here, or the tutorial's own network, bit for bit."),
    ] = "layers"
    relu_derivative: Annotated[
        Literal["published", "correct"],
        Field(
            description="Derivative of ReLU in the tutorial's network: as published, where it is "
            "always 1, or correct.",
        ),
    ] = "published"
    members: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Networks in the ensemble, trained with seed, seed + 1 and so on; their "
            "probabilities are averaged.",
        ),
    ] = 1
    gallery_size: Annotated[
        int, Field(ge=1, le=50, description="Maximum number of training images in the gallery.")
    ] = 5
    gallery_seed: Annotated[
        int, Field(ge=0, lt=2**63, description="Seed for picking the gallery's images.")
    ] = 147_197_952_744
    mistakes: Annotated[int, Field(ge=1, le=100, description="Worst mistakes shown.")] = 20
    dpi: Annotated[
        int, Field(ge=40, le=300, description="Resolution of the figures, in dots per inch.")
    ] = 110

    @field_validator("hidden_sizes", "convolution_channels", mode="before")
    @classmethod
    def _split_text(cls, value: Any) -> Any:
        """Read ``512,256`` as two sizes, and ``none`` or nothing as no sizes."""
        if isinstance(value, str):
            return [] if value in ("", "none") else value.split(",")
        return value or ()

    @field_validator("validation_size", mode="before")
    @classmethod
    def _none_text(cls, value: Any) -> Any:
        """Read what is shown as the default."""
        return None if value in ("None", "none") else value

    def _check_fit(self) -> None:
        # Whoever sets what the tutorial's network does not take is told that, and all of it.
        if self.network == "tutorial":
            self._keep_the_tutorial()
        else:
            super()._check_fit()

    def _keep_the_tutorial(self) -> None:
        tutorial = {**Parameters.model_construct().model_dump(), **TUTORIAL}
        differing = {
            name: getattr(self, name)
            for name in Parameters.model_fields
            if getattr(self, name) != tutorial[name]
        }
        changed = [
            name
            for name in differing
            if name in TrainingSettings.model_fields and name not in _TUTORIAL_TAKES
        ]
        changed += ["hidden_sizes"] if len(self.hidden_sizes) != 1 else []
        if not changed:
            return
        for name in changed:
            for other, value in _NEEDED_BESIDE.get(name, {}).items():
                differing.setdefault(other, value)
        differing.pop("relu_derivative", None)  # layers have the correct one
        settings = " ".join(f"{name}={as_typed(value)}" for name, value in differing.items())
        message = (
            f"the tutorial's network has {', '.join(changed)} fixed; it takes "
            f"{', '.join(_TUTORIAL_TAKES)} (hidden_sizes of one layer). To change it and keep "
            f"the tutorial's other settings, add network=layers (docs/next-steps.md has tuned "
            f"settings): --set network=layers {settings}"
        )
        raise ValueError(message)

    @model_validator(mode="after")
    def _have_a_seed_for_each_member(self) -> Parameters:
        if self.seed + self.members > 2**63:
            message = f"members: the last one's seed would be {self.seed + self.members - 1:,}, "
            message += "expected less than 2**63; choose a smaller seed"
            raise ValueError(message)
        return self

    def training(self, member: int = 0) -> dict[str, Any]:
        """Return the settings that the training takes, as JSON values.

        Parameters
        ----------
        member
            Of an ensemble, counted from 0: it differs in its seed.
        """
        names = {*TrainingSettings.model_fields}
        if self.network == "tutorial":
            names = set(_TUTORIAL_TAKES)
        return {**self.model_dump(mode="json", include=names), "seed": self.seed + member}


# What people change most, and all of them, in the order in which they look for them.
MOST_USED: tuple[str, ...] = (
    "epochs",
    "learning_rate",
    "training_sample",
    "test_sample",
    "hidden_sizes",
    "batch_size",
    "members",
    "seed",
)
PARAMETER_NAMES: tuple[str, ...] = tuple(dict.fromkeys([*MOST_USED, *Parameters.model_fields]))


def allowed(name: str) -> str:
    """Return a parameter's choices or bounds, such as ``sgd, adam, adamw`` or ``> 0, ≤ 10``."""
    described = Parameters.model_fields[name]
    if get_origin(described.annotation) is Literal:
        return ", ".join(get_args(described.annotation))
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [
        (sign, getattr(each, attribute))
        for each in described.metadata
        for attribute, sign in signs.items()
        if hasattr(each, attribute)
    ]
    return ", ".join(f"{sign} {bound:,}" for sign, bound in bounds if bound < 2**63)


def as_typed(value: Any) -> str:
    """Return a parameter's value as people type it: ``512,256`` for several numbers."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


class ParameterError(ValueError):
    """A preset, a parameter's name or its value is not acceptable."""


def resolve(preset: str, overrides: Mapping[str, Any]) -> Parameters:
    """Build the parameters of a run.

    Parameters
    ----------
    preset
        Name out of `PRESETS`.
    overrides
        Values by parameter name; text is read as the parameter's type.

    Raises
    ------
    ParameterError
        Naming every key that is wrong, the rule it breaks, and the nearest valid key.
    """
    if preset not in PRESETS:
        message = (
            f"preset {preset!r}: expected one of {', '.join(PRESETS)}{_nearest(preset, PRESETS)}"
        )
        raise ParameterError(message)
    try:
        return Parameters.model_validate({**PRESETS[preset], **overrides})
    except ValidationError as error:
        problems = [_describe(problem) for problem in error.errors()]
        raise ParameterError("\n".join(problems)) from None


def read_preset(preset: str) -> tuple[str, dict[str, Any]]:
    """Return the named preset behind `preset` and the values that differ from it.

    Parameters
    ----------
    preset
        Name out of `PRESETS`, or the path of a TOML file with a parameter a line and, if it
        likes, ``preset = "cnn"`` to start from another preset than ``mlp``.

    Raises
    ------
    ParameterError
        If the file cannot be read. Its keys and values are judged by `resolve`.
    """
    path = Path(preset)
    if path.suffix != ".toml":
        return preset, {}
    values = read_toml("preset", path, "a parameter a line")
    return str(values.pop("preset", _BASE_OF_A_FILE)), values


def read_toml(kind: str, path: Path, contents: str) -> dict[str, Any]:
    """Return what is in a TOML file that somebody named.

    Parameters
    ----------
    kind, contents
        What the file is for and what is in it, for people: ``preset``, ``a parameter a line``.
    path
        Of the file.

    Raises
    ------
    ParameterError
        If it cannot be read.
    """
    if path.exists() and not path.is_file():  # reading a pipe or a device would not end
        message = f"{kind} {path}: expected a TOML file there, found no regular file"
        raise ParameterError(message)
    try:
        return read_toml_file(path)
    except FileNotFoundError:
        message = f"{kind} {path}: expected a TOML file there, found none"
        raise ParameterError(message) from None
    except (OSError, ValueError) as error:
        message = f"{kind} {path}: expected a TOML file with {contents}: {error}"
        raise ParameterError(message) from error


def parse_assignments(assignments: list[str]) -> dict[str, str]:
    """Split ``key=value`` texts.

    Raises
    ------
    ParameterError
        If one has no ``=`` or a key comes twice.
    """
    values: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        key = key.strip()
        if not equals or not key:
            message = f"expected key=value, such as epochs=5, found {assignment!r}"
            raise ParameterError(message)
        if key in values:
            message = f"{key}: set twice, to {values[key]!r} and {value.strip()!r}; keep one"
            raise ParameterError(message)
        values[key] = value.strip()
    return values


# What text that is none should have been: for one value, and for each of several.
_EXPECTED = {
    "int_parsing": ("a whole number", "whole numbers joined by commas, such as 128,64"),
    "int_from_float": ("a whole number", "whole numbers joined by commas, such as 128,64"),
    "float_parsing": ("a number", "numbers joined by commas, such as 0.5,0.1"),
    "bool_parsing": ("true or false", "true or false, joined by commas"),
}


def _describe(problem: Any) -> str:
    demand = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if problem["type"] in _EXPECTED:
        one, several = _EXPECTED[problem["type"]]
        demand = several if len(problem["loc"]) > 1 else one
    if not problem["loc"]:  # several parameters that do not fit together
        return str(demand)
    key = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        known = Parameters.model_fields
        hint = _nearest(key, known) or "; list them with: digitflow parameters"
        return f"{key}: no such parameter{hint}"
    field = Parameters.model_fields[key]
    return f"{key}: should be {demand}, found {problem['input']!r} ({field.description})"


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    if _OTHER_NAMES.get(name) in known:
        return f"; did you mean {_OTHER_NAMES[name]!r}?"
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
