"""Records: which outputs a stage gave for a key, who made them, and when.

A record is one JSON file that carries the digest of its own contents. It is written last, so
that it never names outputs that are not there, and nothing that it says is trusted unread.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digitflow.storage.atomic import write_bytes
from digitflow.storage.checksummed import seal, unseal
from digitflow.storage.digests import digest_json, is_sha256, short
from digitflow.storage.errors import ArtifactError, RecordDamagedError
from digitflow.storage.fields import is_number, is_output_name, is_time
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.keys import FORMAT_VERSION
from digitflow.storage.safe_open import open_regular

STAGE_NAME = "[a-z][a-z0-9_-]{0,99}"
# Ours are some kilobytes; reading stops here whatever lies in the folder.
MAX_RECORD_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """What a stage made.

    Attributes
    ----------
    key
        The cache key: digest of `document`.
    label
        Name of the task run, such as ``decode-training-images``.
    document
        The key's document: stage, code, parameters, inputs.
    outputs
        References by name. All outputs of a stage are in one record.
    run
        Name of the run that made it.
    created
        Time of the commit, ISO 8601 in UTC.
    seconds
        How long the computation took.
    """

    key: str
    label: str
    document: Mapping[str, Any]
    outputs: Mapping[str, Artifact]
    run: str
    created: str
    seconds: float

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return str(self.document["stage"])

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object that carries its own digest."""
        body = {
            "format": FORMAT_VERSION,
            "key": self.key,
            "label": self.label,
            "document": dict(self.document),
            "outputs": {name: artifact.to_json() for name, artifact in self.outputs.items()},
            "run": self.run,
            "created": self.created,
            "seconds": self.seconds,
        }
        return seal(body)

    @classmethod
    def from_json(cls, text: str | bytes) -> Record:
        """Read a record back, trusting nothing.

        Raises
        ------
        RecordDamagedError
            If it is not JSON, not a record, or not what its own digest promises.
        """
        try:
            body, is_intact = unseal(json.loads(text))
            if not is_intact:
                message = "its contents do not match its digest"
                raise RecordDamagedError(message)
            body.pop("format")
            outputs = {name: Artifact.from_json(each) for name, each in body["outputs"].items()}
            record = cls(**{**body, "outputs": outputs})
            _check_types(record)
            if digest_json(record.document) != record.key:
                message = "its key is not the digest of its document"
                raise RecordDamagedError(message)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            RecursionError,
            ArtifactError,
        ) as error:
            message = f"it is not a record ({type(error).__name__}: {error})"
            raise RecordDamagedError(message[:300]) from error
        return record


def _check_types(record: Record) -> None:
    """Refuse what is whole but was never written by us: others read these fields unchecked."""
    texts = (record.key, record.label, record.run, record.document["stage"])
    parts = (record.document["parameters"], record.document["inputs"], record.document["code"])
    definitions = record.document["code"].values()
    digests = record.document["inputs"].values()
    if (
        not all(isinstance(text, str) for text in (*texts, *digests))
        or not all(isinstance(part, dict) for part in (*parts, *definitions))
        or not all(is_output_name(name) for name in record.outputs)
        or not is_time(record.created)
        or not is_number(record.seconds)
    ):
        message = "a field of it has another type than ours"
        raise TypeError(message)


def is_stage_name(text: str) -> bool:
    """Tell whether `text` can name a stage, and so a folder."""
    return re.fullmatch(STAGE_NAME, text) is not None


def now() -> str:
    """Return the time as records state it: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RecordStore:
    """Records in one folder for each stage, named by their keys."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, stage: str, key: str) -> Path:
        """Return where the record of a key lies or would lie.

        Raises
        ------
        ValueError
            If the stage's name or the key could become another path.
        """
        if not is_stage_name(stage) or not is_sha256(key):
            message = f"expected a stage name and a SHA-256, found {stage!r} and {key!r}"
            raise ValueError(message)
        return self.root / stage / f"{key}.json"

    def load(self, stage: str, key: str) -> Record | None:
        """Return the record of a key, or None if there is none.

        Raises
        ------
        RecordDamagedError
            If there is one that cannot be trusted.
        """
        path = self.path(stage, key)
        try:
            record = self._read(path)
        except FileNotFoundError:
            return None
        if record.key != key or record.stage != stage:
            message = (
                f"record {short(key)}… is damaged: {path} holds the record of another key, "
                f"{short(record.key)}…"
            )
            raise RecordDamagedError(message)
        return record

    def save(self, record: Record) -> None:
        """Write a record whole or not at all."""
        data = json.dumps(record.to_json(), sort_keys=True, ensure_ascii=False).encode()
        write_bytes(self.path(record.stage, record.key), data)

    def keep(self, record: Record) -> None:
        """Write a record, unless there is one of the same outputs: that one is used."""
        try:
            there = self.load(record.stage, record.key)
        except RecordDamagedError:
            there = None
        if there is not None and there.outputs == record.outputs:
            self.mark_used(there)
        else:
            self.save(record)

    def mark_used(self, record: Record) -> None:
        """Note that a record was served now: the file's time of change is its last use."""
        os.utime(self.path(record.stage, record.key))

    def last_used(self, record: Record) -> datetime:
        """Return when a record was last served or written."""
        path = self.path(record.stage, record.key)
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def stages(self) -> list[str]:
        """Return the names of the stages that have records, in order."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if is_stage_name(folder.name))

    def of_stage(self, stage: str) -> Iterator[Record]:
        """Iterate over the readable records of a stage, newest first."""
        folder = self.root / stage
        if not folder.is_dir():
            return
        paths = [path for path in folder.glob("*.json") if is_sha256(path.stem)]
        for path in sorted(paths, key=_changed_at, reverse=True):
            try:
                yield self._read(path)
            except (RecordDamagedError, FileNotFoundError):
                # Damage is reported by whoever asks for that key, and by `verify`.
                continue

    def _read(self, path: Path) -> Record:
        try:
            with open_regular(path) as file:
                text = file.read(MAX_RECORD_BYTES + 1)
            if len(text) > MAX_RECORD_BYTES:
                message = f"it is larger than {MAX_RECORD_BYTES} bytes"
                raise RecordDamagedError(message)
            return Record.from_json(text)
        except RecordDamagedError as error:
            message = f"record {short(path.stem)}… is damaged: {path}: {error}"
            raise RecordDamagedError(message) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            message = f"record {short(path.stem)}… is damaged: {path} cannot be read ({error})"
            raise RecordDamagedError(message) from error


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # swept meanwhile
        return 0.0
