"""How long a test waits: until something holds, and no test is about how long that takes."""

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

PATIENCE = 1200.0
"""Seconds after which what a test waits for has failed: long beside any load of the machine.

Every wait of the tests ends with its condition, so that only a failing test waits for long.
"""


def wait_for(ask: Callable[[], Result | None], what: str) -> Result:
    """Ask again and again until the answer is true, and return it.

    Raises
    ------
    TimeoutError
        If it is not within `PATIENCE`; says what was waited for.
    """
    deadline = time.monotonic() + PATIENCE
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {PATIENCE:g} s")
        time.sleep(0.1)
    return answer
