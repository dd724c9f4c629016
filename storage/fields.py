"""What a field of a record may be: whoever reads an accepted record uses its fields unchecked."""

from __future__ import annotations

import re
from datetime import datetime

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


def is_number(value: object) -> bool:
    """Tell whether `value` is a number that computes and prints like a float."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -_LARGEST < value < _LARGEST
    )


def is_output_name(value: object) -> bool:
    """Tell whether `value` can name a stage's output, and so a file of a run's results."""
    return isinstance(value, str) and re.fullmatch(OUTPUT_NAME, value) is not None
