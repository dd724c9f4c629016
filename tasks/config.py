"""Run parameters: every one that can be set, with its bounds, its default and what it means.

The command line, the deployments and the run form of the Prefect UI all take these, by these
names. A preset is a short list of values that differ from the defaults.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

DEFAULT_PRESET = "tutorial"


class Parameters(BaseModel):
    """What decides a run's result, beside the data and the code."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    training_sample: Annotated[
        int, Field(ge=1, le=100_000_000, description="Training images to use, from the first on.")
    ] = 1_000
    test_sample: Annotated[
        int, Field(ge=1, le=100_000_000, description="Test images to use, from the first on.")
    ] = 1_000
    hidden_size: Annotated[
        int, Field(ge=1, le=65_536, description="Units of the hidden layer.")
    ] = 100
    learning_rate: Annotated[
        float, Field(gt=0, le=10, description="Step size of gradient descent.")
    ] = 0.005
    epochs: Annotated[
        int, Field(ge=1, le=10_000, description="Passes over the training images.")
    ] = 20
    seed: Annotated[
        int,
        Field(ge=0, lt=2**63, description="Seed of the initial weights and of dropout."),
    ] = 884_736_743
    gallery_size: Annotated[
        int, Field(ge=1, le=50, description="Training images shown in the gallery.")
    ] = 5
    gallery_seed: Annotated[
        int, Field(ge=0, lt=2**63, description="Seed that picks the gallery's images.")
    ] = 147_197_952_744
    mistakes: Annotated[int, Field(ge=1, le=100, description="Worst test images shown.")] = 20
    dpi: Annotated[
        int, Field(ge=40, le=300, description="Resolution of the figures, in dots per inch.")
    ] = 110


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # The tutorial's own values are the defaults.
        "tutorial": MappingProxyType({}),
    }
)


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


def _describe(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"][:1])
    if problem["type"] == "extra_forbidden":
        known = Parameters.model_fields
        return (
            f"{key}: no such parameter{_nearest(key, known)}. The parameters are {', '.join(known)}"
        )
    rule = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    field = Parameters.model_fields[key]
    return f"{key}: should be {rule}, found {problem['input']!r} ({field.description})"


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
