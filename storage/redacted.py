"""URLs and error texts without what lets somebody in: names, passwords, tokens, signatures."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SHOWN = "…"
_USER = re.compile(r"(?<=://)[^\s/?#]*@")
# A query anywhere: libraries quote a URL in their errors with and without its host.
_QUERY = re.compile(r"(?<=[^\s?])\?[^\s?='\"<>()]*=[^\s'\"<>()]*")


def redacted(text: str) -> str:
    """Return a text in which no URL has a user, a password or a query."""
    return _QUERY.sub("?" + _SHOWN, _USER.sub("", text))


def shown_url(url: str) -> str:
    """Return a URL as people may see it: without user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
