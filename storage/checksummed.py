"""JSON documents that carry the digest of their own contents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from digitflow.storage.atomic import write_bytes
from digitflow.storage.digests import digest_json
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.safe_open import open_regular

_SEAL = "sha256"
_MAX_BYTES = 16 * 1024 * 1024


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


def write_sealed(path: Path, body: Mapping[str, Any]) -> None:
    """Write a document with its digest, whole or not at all."""
    text = json.dumps(seal(body), sort_keys=True, ensure_ascii=False)
    write_bytes(path, text.encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a document back, trusting nothing.

    Raises
    ------
    FileNotFoundError
        If there is none.
    RecordDamagedError
        If it is not what its own digest promises.
    """
    try:
        with open_regular(path) as file:
            body, is_intact = unseal(json.loads(file.read(_MAX_BYTES)))
        if not is_intact:
            message = "it does not match its digest"
            raise ValueError(message)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        message = f"{path} is damaged: {error}"
        raise RecordDamagedError(message) from error
    return body
