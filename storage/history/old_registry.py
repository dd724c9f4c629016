"""The registry of an older digitflow: a file for each version, and one for each alias.

Read once, and never changed. Layout below the store's root::

    models/versions/000001.json   one version
    models/aliases/champion.json  where an alias stands and where it stood
    models/in-ledger.json         written by this module: the ledger has all of it
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.digests import digest_json
from digitflow.storage.documents import Document, Documents, Kind, checksummed, verified
from digitflow.storage.errors import RecordDamagedError
from digitflow.storage.history.models import ModelVersion

_READ = "models/in-ledger.json"


@dataclass(frozen=True)
class OldMove:
    """One move of an alias: to which version, when, and why."""

    version: int
    at: str
    why: str


@dataclass(frozen=True)
class Alias(Document):
    """Where an alias stands, last, and where it stood before."""

    alias: str
    moves: tuple[OldMove, ...]


VERSIONS = Kind(
    ModelVersion,
    folder="models/versions",
    is_name=re.compile(r"\d{6}").fullmatch,
    expected="a number of six digits",
    title=lambda name: f"model version {int(name)}",
    name_of=lambda model: f"{model.version:06d}",
)
ALIASES = Kind(
    Alias,
    folder="models/aliases",
    is_name=re.compile(r"[a-z][a-z0-9-]{0,49}").fullmatch,
    expected="an alias of lower-case letters, digits, dashes",
    title=lambda name: f"alias {name}",
    name_of=lambda alias: alias.alias,
)


@dataclass(frozen=True)
class Found:
    """What an older registry holds.

    Attributes
    ----------
    origin
        What tells it from that of another machine.
    versions
        Those that can be read.
    moves
        Of all aliases: `alias`, `version`, `at`, `why`.
    reserved
        Numbers of versions that cannot be read.
    problems
        What is wrong with them, and with aliases.
    """

    origin: str
    versions: list[ModelVersion]
    moves: list[dict[str, object]]
    reserved: list[int]
    problems: list[str]


class OldRegistry:
    """The registry of an older digitflow in a store's folder, if there is one.

    Parameters
    ----------
    folder
        The store's folder on this machine.
    """

    def __init__(self, folder: LocalBackend) -> None:
        self._folder = folder
        self._versions = Documents(VERSIONS, folder)
        self._aliases = Documents(ALIASES, folder)

    def read(self, ledger: str) -> Found | None:
        """Return what it holds, or None if there is none or `ledger` has all of it."""
        if not self._has_any():
            return None
        with suppress(OSError, RecordDamagedError):
            if verified(self._folder.read(_READ))["ledger"] == ledger:
                return None
        versions: list[ModelVersion] = []
        moves: list[dict[str, object]] = []
        reserved, problems = [], []
        for name in self._versions.entries():
            try:
                versions.append(self._versions.load(name))
            except RecordDamagedError as error:
                reserved.append(int(name))
                problems.append(str(error))
        for name in self._aliases.entries():
            try:
                moves += [
                    {"alias": name, **asdict(each)} for each in self._aliases.load(name).moves
                ]
            except RecordDamagedError as error:
                problems.append(str(error))
        origin = digest_json([[asdict(each) for each in versions], moves, problems])
        return Found(origin, versions, moves, reserved, problems)

    def _has_any(self) -> bool:
        return any(self._folder.stat(each) for each in ("models/versions", "models/aliases"))

    def mark_read(self, origin: str, ledger: str) -> None:
        """Note that a ledger has all of it."""
        self._folder.write(_READ, checksummed({"origin": origin, "ledger": ledger}))
