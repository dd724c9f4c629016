"""What each run did: one JSON file a run, for comparing runs and for refreshing their results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from digitflow.storage.digests import digest_bytes, digest_json
from digitflow.storage.documents import Document, Kind
from digitflow.storage.fields import Number, OutputName, Time
from digitflow.storage.formats.artifacts import Artifact

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def run_name(text: str) -> str:
    """Return a run's name as the store and its folders can bear it.

    Anybody may name a run in the UI as they like: ``Run #1``, ``../x``. What a name cannot hold
    becomes a dash, and a digest of the text keeps two such names apart.
    """
    if RUN_NAME.fullmatch(text):
        return text
    plain = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:80] or "run"
    return f"{plain}-{digest_bytes(text.encode(errors='replace'))[:8]}"


@dataclass(frozen=True)
class _Stage:
    """What is relied on of the record of a stage in a run."""

    name: str
    stage: str
    key: str
    cached: bool
    reasons: tuple[str, ...]
    seconds: Number
    outputs: Mapping[OutputName, Artifact]


def _is_of_a_stage(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    _stages().validate_json(json.dumps(stage), strict=True)
    return stage


@cache
def _stages() -> TypeAdapter[_Stage]:
    return TypeAdapter(_Stage)


@dataclass(frozen=True)
class RunRecord(Document):
    """One finished run.

    Attributes
    ----------
    name
        As Prefect gave it.
    created
        When it finished, ISO 8601 in UTC.
    seconds
        Wall time.
    preset, dataset
        As asked for.
    parameters
        All of them, resolved.
    stages
        For each stage its name, label, key, whether it was cached, why not, seconds and
        output references.
    metrics
        What `evaluate` found, without the per-class part; empty if it did not run.
    results
        Folder of the results, or None.
    """

    name: str
    created: Time
    seconds: Number
    preset: str
    dataset: str
    parameters: Mapping[str, Any]
    stages: tuple[Annotated[Mapping[str, Any], AfterValidator(_is_of_a_stage)], ...]
    metrics: Mapping[str, Number]
    results: str | None


def is_run_name(text: str) -> bool:
    """Tell whether `text` can name a run, and so a file."""
    return RUN_NAME.fullmatch(text) is not None


def digest_of_stages(stages: Iterable[Mapping[str, Any]]) -> str:
    """Return what tells whether two runs consist of the same results."""
    return digest_json([stage["key"] for stage in stages])


RUNS = Kind(
    RunRecord,
    folder="runs",
    is_name=is_run_name,
    expected="a run name of letters, digits, dots and dashes",
    title=lambda name: f"the record of run {name}",
    name_of=lambda run: run.name,
    order="facts",
    facts=lambda run: (run["created"], (digest_of_stages(run["stages"]),)),
    is_copied=True,
)
