"""Sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def megabytes(size: int) -> str:
    """Return a number of bytes such as ``9.9 MB`` or ``4.5 kB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def age(moment: str) -> str:
    """Return how long ago an ISO 8601 time was, such as ``3 min`` or ``2 d``."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
    for unit, factor in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def local_time(moment: str) -> str:
    """Return an ISO 8601 time in the local time zone, to the minute."""
    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
