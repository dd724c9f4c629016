"""What sources of data served when they were last asked: one checksummed JSON file a source.

Whose ETags, times and digests these are, and what they mean, is the caller's matter. They are this
machine's own, in a shared store too: each machine asks for itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitflow.storage.digests import digest_bytes
from digitflow.storage.documents import Document, Kind, LocalDocuments

_DIGITS = 32


@dataclass(frozen=True)
class SourceRecord(Document):
    """What a source served when it was last asked: JSON values by name."""

    source: str
    served: Mapping[str, Any]


def _name(source: str) -> str:
    """Return the name of a source's record; that of a source may be any text."""
    return digest_bytes(source.encode(errors="replace"))[:_DIGITS]


SOURCES = Kind(
    SourceRecord,
    folder="sources",
    is_name=re.compile(f"[0-9a-f]{{{_DIGITS}}}").fullmatch,
    expected=f"{_DIGITS} hexadecimal digits",
    title=lambda name: f"the record of source {name[:12]}…",
    name_of=lambda record: _name(record.source),
)


class SourceStore:
    """Records of sources in one folder.

    Parameters
    ----------
    documents
        Where they lie.
    """

    def __init__(self, documents: LocalDocuments[SourceRecord]) -> None:
        self.documents = documents

    def path(self, source: str) -> Path:
        """Return where the record of a source lies."""
        return self.documents.path(_name(source))

    def save(self, source: str, served: Mapping[str, Any]) -> None:
        """Remember what a source served, in place of what it served before.

        Parameters
        ----------
        source
            What tells it from others.
        served
            JSON values.
        """
        self.documents.save(SourceRecord(source, dict(served)))

    def load(self, source: str) -> dict[str, Any] | None:
        """Return what a source served when it was last asked, or None if it never was.

        Raises
        ------
        RecordDamagedError
            If the record cannot be trusted.
        """
        try:
            return dict(self.documents.load(_name(source)).served)
        except FileNotFoundError:
            return None
