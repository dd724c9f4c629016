"""What several commands of `digitflow` share: exit codes, flags, ways to print."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter, validators
from rich.console import Console

DONE, FAILED, BAD_USAGE = 0, 1, 2

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for scripts.")]
AT_LEAST_ONE = validators.Number(gte=1)


def plain_console() -> Console:
    """Return a console that prints names as they are, with brackets or without."""
    return Console(highlight=False, markup=False)


def print_with_time(console: Console, text: str) -> None:
    """Print a line of what lasts, after the time of day."""
    console.print(f"{time.strftime('%H:%M:%S')}  {text}", markup=False, soft_wrap=True)
