"""Records: which outputs a stage gave for a key, who made them, and when.

A record is one JSON file that carries the digest of its own contents. It is written last, so
that it never names outputs that are not there, and nothing that it says is trusted unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter

from digitflow.storage.digests import digest_bytes, encoded_json, is_sha256, short
from digitflow.storage.documents import Document, Kind, LocalDocuments
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.fields import Number, OutputName, Sha256, Time
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.keys import FORMAT_VERSION

STAGE_NAME = "[a-z][a-z0-9_-]{0,99}"


@dataclass(frozen=True)
class _KeyDocument:
    """What `StageKey.document` gives, as far as somebody relies on it."""

    stage: str
    code: Mapping[str, Mapping[str, Any]]
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    # Since the second format of keys.
    definition: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    processor: str | None = None


def _is_of_a_key(document: Mapping[str, Any]) -> Mapping[str, Any]:
    _key_documents().validate_python(document)
    return document


@cache
def _key_documents() -> TypeAdapter[_KeyDocument]:
    return TypeAdapter(_KeyDocument)


@dataclass(frozen=True)
class Acceptance:
    """A person's word that an edit of the code does not change what comes out.

    Attributes
    ----------
    key
        Of the record, made by the code before the edit, whose outputs are served.
    by, reason, at
        Who said so, why, and when.
    """

    key: Sha256
    by: str
    reason: str
    at: Time


@dataclass(frozen=True)
class Record(Document):
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
    format
        Version of the record's form.
    observed
        What was read beside the inputs, with digests: `digitflow.storage.code.observed`.
    made_with
        What it was computed with, such as the BLAS.
    accepted
        Why outputs of other code are served under this key, where nothing computed them.
    """

    key: str
    label: str
    document: Annotated[Mapping[str, Any], AfterValidator(_is_of_a_key)]
    outputs: Mapping[OutputName, Artifact]
    run: str
    created: Time
    seconds: Number
    format: int = FORMAT_VERSION
    observed: Mapping[str, str] = field(default_factory=dict)
    made_with: Mapping[str, str] = field(default_factory=dict)
    accepted: Acceptance | None = None

    @property
    def stage(self) -> str:
        """Name of the stage."""
        return str(self.document["stage"])


@lru_cache(maxsize=1_024)
def is_stage_name(text: str) -> bool:
    """Tell whether `text` can name a stage, and so a folder."""
    return re.fullmatch(STAGE_NAME, text) is not None


def now() -> str:
    """Return the time as records state it: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _is_name(text: str) -> bool:
    stage, _, key = text.partition("/")
    return is_stage_name(stage) and is_sha256(key)


def _check_key(record: Record) -> None:
    if digest_bytes(encoded_json(record.document)) != record.key:
        message = "its key is not the digest of its document"
        raise ValueError(message)


def _facts(record: Mapping[str, Any]) -> tuple[str, set[str]]:
    made = [artifact["sha256"] for artifact in record["outputs"].values()]
    return record["created"], {*made, *record["document"]["inputs"].values()}


RECORDS = Kind(
    Record,
    folder="records",
    is_name=_is_name,
    expected="a stage name and a SHA-256",
    title=lambda name: f"record {short(name.rpartition('/')[2])}…",
    name_of=lambda record: f"{record.stage}/{record.key}",
    check=_check_key,
    facts=_facts,
    depth=2,
    is_folder=is_stage_name,
)


class RecordStore:
    """Records in one folder for each stage, named by their keys.

    Parameters
    ----------
    documents
        Where they lie.
    """

    def __init__(self, documents: LocalDocuments[Record]) -> None:
        self.documents = documents

    @property
    def root(self) -> Path:
        """Folder of all records on this machine."""
        return self.documents.root

    def path(self, stage: str, key: str) -> Path:
        """Return where the record of a key lies or would lie.

        Raises
        ------
        ValueError
            If the stage's name or the key could become another path.
        """
        return self.documents.path(f"{stage}/{key}")

    def load(self, stage: str, key: str) -> Record | None:
        """Return the record of a key, or None if there is none.

        Raises
        ------
        RecordDamagedError
            If there is one that cannot be trusted.
        """
        try:
            return self.documents.load(f"{stage}/{key}")
        except FileNotFoundError:
            return None

    def save(self, record: Record) -> None:
        """Write a record whole or not at all."""
        self.documents.save(record)

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
        """Note that a record was served now; `FileNotFoundError` if it is no longer there."""
        self.documents.mark_used(record)

    def last_used(self, record: Record) -> datetime:
        """Return when a record was last served or written."""
        path = self.path(record.stage, record.key)
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)

    def stages(self) -> list[str]:
        """Return the names of the stages that have records, in order."""
        return sorted({name.partition("/")[0] for name in self.documents.everywhere()})

    def of_stage(self, stage: str, most: int | None = None) -> Iterator[Record]:
        """Iterate over the readable records of a stage, newest first, and no more than so many."""
        yield from self.documents.newest_first(stage, most)

    def naming(self, sha256: str) -> Iterator[Record]:
        """Iterate over the readable records of this machine that name an object, newest first."""
        yield from self.documents.naming(sha256)

    def starting_with(self, prefix: str) -> list[Record]:
        """Return the readable records whose keys start so, here or on the shared store."""
        found = []
        for name in self.documents.everywhere():
            stage, _, key = name.partition("/")
            if key.startswith(prefix):
                with suppress(RecordDamagedError):
                    record = self.load(stage, key)
                    found += [record] if record is not None else []
        return found


def record_name(stage: str, key: str) -> str:
    """Return where a record lies below a store's root; `ValueError` if it leads elsewhere."""
    return RECORDS.file(f"{stage}/{key}")
