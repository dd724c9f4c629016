"""What was found in the sources that have been read before, so that they need no parsing.

Parsing all that a stage is made of takes a few tenths of a second. What it finds is a function
of the source's bytes, of Python and of how we look at it, so it is kept under the digest of the
three, in one file of the store. No time of change is trusted. A file that is damaged, or that
another version wrote, is as good as none.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from digitflow.storage.backends.atomic import write_bytes
from digitflow.storage.code import syntax
from digitflow.storage.code.syntax import Binding, Summary, Unit
from digitflow.storage.digests import digest_bytes, is_sha256
from digitflow.storage.documents import checksummed, read_checksummed
from digitflow.storage.errors import RecordDamagedError

_MAX_SOURCES = 2_000  # many times what a project has; older ones go when there are more


class CodeMemo:
    """Findings by the digest of what they were found in.

    Parameters
    ----------
    path
        The file; read at the first question, written by `save`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Summary] | None = None
        self._asked: set[str] = set()
        self._changed = False

    def get(self, key: str) -> Summary | None:
        """Return what was found, or None."""
        if self._known is None:
            self._known = _load(self._path)
        self._asked.add(key)
        return self._known.get(key)

    def put(self, key: str, summary: Summary) -> None:
        """Remember what was found, for this process and for those after the next `save`."""
        if self._known is None:
            self._known = _load(self._path)
        self._known[key] = summary
        self._changed = True

    def save(self) -> None:
        """Write the file if there is something new. Of two processes the later one wins."""
        if not self._changed or self._known is None:
            return
        self._changed = False
        known = dict(self._known)  # other threads may add to it meanwhile
        if len(known) > _MAX_SOURCES:
            known = {key: known[key] for key in self._asked if key in known}
        body: dict[str, Any] = {
            "looked_at_by": _observer(),
            "found": dict(sorted(known.items())),
        }
        try:
            write_bytes(self._path, checksummed(body))
        except OSError:
            # Nothing is lost but time. Where the store cannot be written at all, whoever has
            # outputs to write says so.
            return


@lru_cache(maxsize=16)
def memo_in(root: Path) -> CodeMemo:
    """Return the memo of a store, one for the process."""
    return CodeMemo(root / "code.json")


def key_of(source: bytes, name: str, is_package: bool) -> str:
    """Return under what the findings in a module's source are kept."""
    # Relative imports are resolved with the module's name.
    return digest_bytes(f"{name}\0{is_package}\0".encode() + source)


def _load(path: Path) -> dict[str, Summary]:
    try:
        body = read_checksummed(path)
        if body["looked_at_by"] != _observer():
            return {}
        found = {key: _summary(*parts) for key, parts in body["found"].items()}
    except (OSError, RecordDamagedError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found if all(map(is_sha256, found)) else {}


def _summary(units: Any, bindings: Any, reaches: Any, functions: Any) -> Summary:
    return Summary(
        tuple(Unit(*each) for each in units),
        tuple(Binding(*each) for each in bindings),
        tuple((module, taken, place) for module, taken, place in reaches),
        dict(functions),
    )


@lru_cache(maxsize=1)
def _observer() -> str:
    """What decides, beside a source, what is found in it: Python and our way of looking."""
    return f"{sys.version} {digest_bytes(Path(syntax.__file__).read_bytes())}"
