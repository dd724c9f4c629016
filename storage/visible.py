"""Text as people may see it: harmless, whoever wrote it, and without what lets somebody in.

A terminal obeys control characters, and a direction override makes a name look like another. Both
are shown as JSON writes them, ``\\u001b``, so that a document of JSON stays the same document.
A URL may hold names, passwords, tokens and signatures.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

# Controls, formats such as direction overrides, halves of a pair, separators of lines.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_UNUSUAL = re.compile("[^ -~]")
# Without these, Persian, the scripts of India and many emoji are spelt wrong.
_JOINERS = "\u200c\u200d"

_SHOWN = "…"
_USER = re.compile(r"(?<=://)[^\s/?#]*@")
# A query anywhere: libraries quote a URL in their errors with and without its host.
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s?='\"<>()]*=[^\s'\"<>()]*")


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


def redacted(text: str) -> str:
    """Return a text in which no URL has a user, a password or a query."""
    return _QUERY.sub("?" + _SHOWN, _USER.sub("", text))


def shown_url(url: str) -> str:
    """Return a URL as people may see it: without user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
