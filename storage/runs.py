"""What each run did: one JSON file a run, for comparing runs and for refreshing their results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from digitflow.storage.atomic import write_bytes
from digitflow.storage.checksummed import seal, unseal
from digitflow.storage.digests import digest_bytes
from digitflow.storage.errors import ArtifactError, RecordDamagedError
from digitflow.storage.fields import is_number, is_output_name, is_time
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.os_errors import explaining
from digitflow.storage.safe_open import open_regular

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MAX_BYTES = 16 * 1024 * 1024


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
class RunRecord:
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
    created: str
    seconds: float
    preset: str
    dataset: str
    parameters: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    metrics: Mapping[str, Any]
    results: str | None


class RunStore:
    """Run records in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where a run's record lies.

        Raises
        ------
        ValueError
            If the name could become another path.
        """
        if not RUN_NAME.fullmatch(name):
            message = f"expected a run name of letters, digits, dots and dashes, found {name!r}"
            raise ValueError(message)
        return self.root / f"{name}.json"

    def save(self, run: RunRecord) -> None:
        """Write a run's record whole or not at all.

        Raises
        ------
        StorageFullError, StoreUnusableError
            If the disk is full, or the store cannot be written.
        """
        body = asdict(run)
        text = json.dumps(seal(body), sort_keys=True, ensure_ascii=False)
        with explaining(f"the record of run {run.name}", self.root):
            write_bytes(self.path(run.name), text.encode())

    def load(self, name: str) -> RunRecord:
        """Read a run's record.

        Raises
        ------
        FileNotFoundError
            If there is none.
        RecordDamagedError
            If it cannot be trusted.
        """
        path = self.path(name)
        try:
            with open_regular(path) as file:
                text = file.read(_MAX_BYTES + 1)
            if len(text) > _MAX_BYTES:
                message = f"run record {path} is damaged: it is larger than {_MAX_BYTES} bytes"
                raise RecordDamagedError(message)
        except FileNotFoundError:
            raise
        except OSError as error:
            message = f"run record {path} is damaged: {error}"
            raise RecordDamagedError(message) from error
        return parse_run(text, name, str(path))

    def newest_first(self) -> Iterator[RunRecord]:
        """Iterate over the readable records, newest first."""
        if not self.root.is_dir():
            return
        found = []
        for path in self.root.glob("*.json"):
            try:
                found.append(self.load(path.stem))
            except (RecordDamagedError, FileNotFoundError, ValueError):
                continue
        yield from sorted(found, key=lambda run: run.created, reverse=True)

    def damaged(self) -> Iterator[Path]:
        """Iterate over what lies here and cannot be trusted."""
        for path in sorted(self.root.glob("*.json")):
            try:
                self.load(path.stem)
            except FileNotFoundError:
                continue
            except (RecordDamagedError, ValueError):
                yield path


def is_run_name(text: str) -> bool:
    """Tell whether `text` can name a run, and so a file."""
    return RUN_NAME.fullmatch(text) is not None


def parse_run(text: bytes, name: str, place: str) -> RunRecord:
    """Read the record of the run `name` back, trusting nothing.

    Raises
    ------
    RecordDamagedError
        Naming `place`, if it is not JSON, not a run's record, or not what its own digest
        promises.
    """
    try:
        body, is_intact = unseal(json.loads(text))
        if not is_intact:
            message = f"run record {place} is damaged: it does not match its digest"
            raise RecordDamagedError(message)
        run = RunRecord(**{**body, "stages": tuple(body["stages"])})
        _check_types(run)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        ArtifactError,
    ) as error:
        message = f"run record {place} is damaged: {type(error).__name__}: {error}"[:500]
        raise RecordDamagedError(message) from error
    if run.name != name:
        message = f"run record {place} is damaged: it is that of the run {run.name!r}"
        raise RecordDamagedError(message)
    return run


def _check_types(run: RunRecord) -> None:
    """Refuse what is whole but was never written by us: others read these fields unchecked."""
    if (
        not all(isinstance(text, str) for text in (run.name, run.preset, run.dataset))
        or not (run.results is None or isinstance(run.results, str))
        or not isinstance(run.parameters, dict)
        or not isinstance(run.metrics, dict)
        or not all(is_number(number) for number in (run.seconds, *run.metrics.values()))
        or not is_time(run.created)
        or not all(_is_stage(stage) for stage in run.stages)
    ):
        message = "a field of it has another type than ours"
        raise TypeError(message)


def _is_stage(stage: Any) -> bool:
    for artifact in stage["outputs"].values():
        Artifact.from_json(artifact)
    return (
        all(isinstance(stage[name], str) for name in ("name", "stage", "key"))
        and isinstance(stage["cached"], bool)
        and isinstance(stage["reasons"], list)
        and all(isinstance(reason, str) for reason in stage["reasons"])
        and all(is_output_name(name) for name in stage["outputs"])
        and is_number(stage["seconds"])
    )
