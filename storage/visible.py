"""Text that others wrote, made harmless for whoever reads it.

A terminal obeys control characters, and a direction override makes a name look like another. Both
are shown as JSON writes them, ``\\u001b``, so that a document of JSON stays the same document.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

# Controls, formats such as direction overrides, halves of a pair, separators of lines.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_UNUSUAL = re.compile("[^ -~]")
# Without these, Persian, the scripts of India and many emoji are spelt wrong.
_JOINERS = "\u200c\u200d"


def visible(text: str, kept: str = "\n") -> str:
    """Return a text with every character that cannot be seen written as its code.

    Parameters
    ----------
    text
        From anywhere.
    kept
        Control characters that stay as they are.
    """
    if text.isprintable():
        return text

    def shown(found: re.Match[str]) -> str:
        each = found[0]
        is_hidden = unicodedata.category(each) in _HIDDEN and each not in kept + _JOINERS
        return json.dumps(each)[1:-1] if is_hidden else each

    return _UNUSUAL.sub(shown, text)


def visible_values(value: Any) -> Any:
    """Return a JSON value in which every text is `visible`."""
    match value:
        case str():
            return visible(value)
        case Mapping():
            return {visible(str(name)): visible_values(each) for name, each in value.items()}
        case list() | tuple():
            return [visible_values(each) for each in value]
        case _:
            return value
