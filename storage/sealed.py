"""JSON documents that carry the digest of their own contents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storage.digests import digest_json

_SEAL = "sha256"


def seal(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document together with its digest."""
    return {**body, _SEAL: digest_json(body)}


def unseal(document: Any) -> tuple[dict[str, Any], bool]:
    """Return a document without its digest, and whether it is what the digest promises.

    Raises
    ------
    AttributeError, KeyError, TypeError, ValueError
        If it is no JSON object, or carries no digest.
    """
    digest = document.pop(_SEAL)
    return document, digest_json(document) == digest
