"""Listings of shared stores: each driver of fsspec has names of its own for the same facts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class RemoteFile:
    """One entry of a listing; nothing in it is to be trusted.

    Attributes
    ----------
    name
        The last part of its name.
    size
        Bytes.
    modified
        When it was written, in seconds since 1970, or None if the driver does not say.
    """

    name: str
    size: int
    modified: float | None


def last_part(entry: dict[str, Any]) -> str:
    """Return the last part of the name of a listing's entry."""
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def listed(entry: dict[str, Any]) -> RemoteFile:
    """Return a listing's entry in our words."""
    return RemoteFile(last_part(entry), int(entry.get("size") or 0), _modified_at(entry))


def _modified_at(entry: dict[str, Any]) -> float | None:
    """Return the time of a listing's entry under the names that drivers have for it."""
    for key in ("LastModified", "lastmodified_at", "updated", "mtime", "created"):
        moment = entry.get(key)
        if isinstance(moment, datetime):
            return moment.timestamp()
        if isinstance(moment, int | float):
            return float(moment)
        if isinstance(moment, str):
            with suppress(ValueError):
                return datetime.fromisoformat(moment).timestamp()
    return None
