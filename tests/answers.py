"""`digitflow`, called in this process: what it answers."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.walk import TINY

SET_TINY = ["--set", *(f"{name}={value}" for name, value in TINY.items())]


@dataclass
class Answer:
    """Exit code, and what was written to the two streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Answer]


def no_line_is_too_wide(text: str) -> bool:
    """Paths may pass the edge: a broken one could not be copied."""
    return all(len(line) <= 80 or "/" in line for line in text.splitlines())
