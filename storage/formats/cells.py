"""Text in cells of CSV, of which a spreadsheet executes what looks like a formula."""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*(\s*[=+\-@＝＋－＠].|[\t\r])", re.DOTALL)
_NUMBER = re.compile(r"\s*[+-]?[\d.,]+(e[+-]?\d+)?\s*", re.IGNORECASE)


def guarded(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: with an apostrophe before it.

    A number, and one sign alone, are none. What looks guarded already gets one more, so that
    `unguarded` gives every text back. Source of the signs: OWASP, "CSV injection". Some programs
    pass over spaces before them.
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unguarded(text: str) -> str:
    """Return the text of a cell that `guarded` made."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
