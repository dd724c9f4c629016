"""What each run did: one JSON file a run, for comparing runs and for refreshing their results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage.atomic import write_bytes
from storage.digests import digest_json
from storage.errors import RecordDamagedError
from storage.regular import open_regular

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MAX_BYTES = 16 * 1024 * 1024


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
        """Write a run's record whole or not at all."""
        body = asdict(run)
        body["sha256"] = digest_json(body)
        text = json.dumps(body, sort_keys=True, ensure_ascii=False)
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
            body = json.loads(text)
            digest = body.pop("sha256")
            if digest_json(body) != digest:
                message = f"run record {path} is damaged: it does not match its digest"
                raise RecordDamagedError(message)
            run = RunRecord(**{**body, "stages": tuple(body["stages"])})
            if run.name != name or not isinstance(run.created, str):
                message = f"run record {path} is damaged: it is that of the run {run.name!r}"
                raise RecordDamagedError(message)
            return run
        except FileNotFoundError:
            raise
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
        ) as error:
            message = f"run record {path} is damaged: {error}"
            raise RecordDamagedError(message) from error

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
