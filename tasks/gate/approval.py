"""Before which verdicts of the gate a person is asked, and until when. It needs no Prefect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

When = Literal["never", "when held", "always"]


@dataclass(frozen=True)
class Approval:
    """When a person is asked before a champion changes, and how long for.

    Attributes
    ----------
    when
        ``when held``: where the gate doubts the data. ``always``: also where all is met.
    hours
        After so many without an answer the champion stays.
    """

    when: When = "never"
    hours: float = 24.0

    def asks(self, word: str) -> bool:
        """Return whether a person is asked about such a verdict of the gate."""
        asked = {"never": (), "when held": ("Held",), "always": ("Held", "Promoted")}
        return word in asked[self.when]

    def until(self) -> str:
        """Return until when an answer is awaited that is asked for now."""
        time = datetime.now(UTC) + timedelta(hours=self.hours)
        return time.isoformat(timespec="milliseconds")
