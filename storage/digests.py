"""SHA-256 of bytes, files and JSON documents: the names under which everything is stored."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_sha256(text: object) -> bool:
    """Tell whether `text` is a lower-case hexadecimal SHA-256.

    Digests become file names, so everything read from disk passes through here first.
    """
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def short(sha256: str) -> str:
    """Return the first characters of a digest, as people read them."""
    return sha256[:12]


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of the file at `path`, read in blocks.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_keys(document: Any) -> None:
    """Refuse mappings with other keys than strings.

    `json` would write the keys 1 and "1" alike, so that two documents had one digest.

    Raises
    ------
    TypeError
        If there is one.
    """
    if isinstance(document, dict):
        for key, value in document.items():
            if not isinstance(key, str):
                message = f"expected strings as keys of a JSON object, found {key!r}"
                raise TypeError(message)
            check_keys(value)
    elif isinstance(document, list | tuple):
        for value in document:
            check_keys(value)


def canonical_json(document: Any) -> bytes:
    """Encode a JSON document so that equal documents give equal bytes.

    Parameters
    ----------
    document
        Mappings with string keys, sequences, strings, finite numbers, booleans and None.

    Raises
    ------
    TypeError
        If a value has no JSON form, or a mapping's key is no string.
    ValueError
        If a number is NaN or infinite.
    """
    check_keys(document)
    return encoded_json(document)


def encoded_json(document: Any) -> bytes:
    """Encode as `canonical_json` does what was read from JSON, and so has no other keys."""
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest_json(document: Any) -> str:
    """Return the SHA-256 of a document's canonical JSON."""
    return digest_bytes(canonical_json(document))
