"""What sources of data served when they were last asked: one sealed JSON file a source.

Whose ETags, times and digests these are, and what they mean, is the caller's matter. They are this
machine's own, in a shared store too: each machine asks for itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from digitflow.storage.checksummed import read_sealed, write_sealed
from digitflow.storage.digests import digest_bytes
from digitflow.storage.errors import RecordDamagedError


class SourceStore:
    """Records of sources in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, source: str) -> Path:
        """Return where the record of a source lies; its name may be any text."""
        return self.root / f"{digest_bytes(source.encode(errors='replace'))[:32]}.json"

    def save(self, source: str, served: Mapping[str, Any]) -> None:
        """Remember what a source served, in place of what it served before.

        Parameters
        ----------
        source
            What tells it from others.
        served
            JSON values.
        """
        write_sealed(self.path(source), {"source": source, "served": dict(served)})

    def load(self, source: str) -> dict[str, Any] | None:
        """Return what a source served when it was last asked, or None if it never was.

        Raises
        ------
        RecordDamagedError
            If the record cannot be trusted.
        """
        path = self.path(source)
        try:
            body = read_sealed(path)
        except FileNotFoundError:
            return None
        served = body.get("served")
        if body.get("source") != source or not isinstance(served, dict):
            message = f"{path} is damaged: it is not the record of {source}"
            raise RecordDamagedError(message)
        return served

    def damaged(self) -> Iterator[Path]:
        """Iterate over what lies here and cannot be trusted."""
        for path in sorted(self.root.glob("*.json")):
            if not is_sound(path):
                yield path


def is_sound(path: Path) -> bool:
    """Tell whether a file is as it was written; True if it has gone meanwhile."""
    try:
        read_sealed(path)
    except FileNotFoundError:
        return True
    except RecordDamagedError:
        return False
    return True
