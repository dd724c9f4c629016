"""What a field of a document may be: whoever reads an accepted document uses its fields unchecked.

The types are for annotations that pydantic checks; the functions tell the same of one value.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StrictFloat, StrictInt

OUTPUT_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_LARGEST = 2**63


def is_time(value: object) -> bool:
    """Tell whether `value` is a time in ISO 8601 with its offset from UTC, near our own days.

    At the ends of the calendar no time has a form in every time zone.
    """
    try:
        return (
            isinstance(value, str)
            and (time := datetime.fromisoformat(value)).tzinfo is not None
            and 1970 <= time.year < 3000
        )
    except ValueError:
        return False


def is_output_name(value: object) -> bool:
    """Tell whether `value` can name a stage's output, and so a file of a run's results."""
    return isinstance(value, str) and re.fullmatch(OUTPUT_NAME, value) is not None


def _time(value: str) -> str:
    if not is_time(value):
        message = "expected a time in ISO 8601 with its offset from UTC"
        raise ValueError(message)
    return value


Time = Annotated[str, AfterValidator(_time)]
Number = Annotated[StrictInt | StrictFloat, Field(gt=-_LARGEST, lt=_LARGEST)]
"""A number that computes and prints like a float."""
Count = Annotated[StrictInt, Field(ge=0, lt=_LARGEST)]
OutputName = Annotated[str, Field(pattern=f"^{OUTPUT_NAME}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
