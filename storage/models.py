"""The registry: every trained model a numbered version, and aliases that move between them.

Layout below the store's root::

    models/versions/000001.json   one version; never changed once written, but see `register`
    models/aliases/champion.json  where an alias stands and where it stood, replaced whole

A version refers to its weights and predictions by digest; the sweep of the store keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.documents import Document, Kind, LocalDocuments
from digitflow.storage.errors import (
    MovedMeanwhileError,
    RecordDamagedError,
    UnknownNameError,
)
from digitflow.storage.fields import Number
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.locks import briefly
from digitflow.storage.records import now

CHAMPION = "champion"
ANY = 0  # no version has this number

_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,49}")


@dataclass(frozen=True)
class ModelVersion(Document):
    """One trained model.

    Attributes
    ----------
    version
        Counted from 1.
    created
        When it was registered, ISO 8601 in UTC.
    run
        Name of the run that trained it.
    preset, dataset
        As asked for.
    parameters
        All of them, resolved.
    metrics
        What evaluation found, numbers by name.
    training
        Cache key of the training: code, settings and data in one digest.
    data
        SHA-256 by name of what it was trained and tested on.
    class_names
        What its outputs stand for.
    weights, predictions
        References to the weights, and to outputs and losses on the test set.
    image_size
        Height and width of the images that it takes, in pixels; None in the record of an older
        digitflow, which did not keep them.
    transposed
        Whether the dataset's files hold their images with rows and columns exchanged. The model
        takes upright ones all the same.
    """

    version: int
    created: str
    run: str
    preset: str
    dataset: str
    parameters: Mapping[str, Any]
    metrics: Mapping[str, Number]
    training: str
    data: Mapping[str, str]
    class_names: tuple[str, ...]
    weights: Artifact
    predictions: Artifact
    image_size: tuple[int, int] | None = None
    transposed: bool = False


@dataclass(frozen=True)
class Move:
    """One move of an alias: to which version, when, and why."""

    version: int
    at: str
    why: str


@dataclass(frozen=True)
class Alias(Document):
    """Where an alias stands, last, and where it stood before."""

    alias: str
    moves: tuple[Move, ...]


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
    is_name=_ALIAS.fullmatch,
    expected="an alias of lower-case letters, digits, dashes",
    title=lambda name: f"alias {name}",
    name_of=lambda alias: alias.alias,
)


class ModelStore:
    """Model versions and aliases.

    Parameters
    ----------
    backend
        The store's folder.
    """

    def __init__(self, backend: LocalBackend) -> None:
        self.root = backend.path("models")
        self.versions = LocalDocuments(VERSIONS, backend)
        self.aliases = LocalDocuments(ALIASES, backend)

    def register(self, **fields: Any) -> ModelVersion:
        """Make a trained model a version, or return the version that it is already.

        One that an older digitflow registered without its image size is given it.

        Parameters
        ----------
        **fields
            Those of `ModelVersion`, apart from `version` and `created`.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with briefly(self.root / "register.lock", "the registry of models"):
            for known in self.oldest_first():
                if (known.training, known.weights, known.data) == (
                    fields["training"],
                    fields["weights"],
                    fields["data"],
                ):
                    return self._completed(known, fields)
            # A damaged version keeps its number.
            last = max(map(int, self.versions.entries()), default=0)
            model = ModelVersion(version=last + 1, created=now(), **fields)
            self.versions.save(model)
        return model

    def load(self, version: int) -> ModelVersion:
        """Return a version.

        Raises
        ------
        UnknownNameError
            If there is none of that number.
        RecordDamagedError
            If its record cannot be trusted.
        """
        try:
            return self.versions.load(f"{version:06d}")
        except (FileNotFoundError, ValueError):
            known = ", ".join(str(each.version) for each in self.oldest_first()) or "none yet"
            message = f"expected the number of a model version, found {version}; there are {known}"
            raise UnknownNameError(message) from None

    def oldest_first(self) -> Iterator[ModelVersion]:
        """Iterate over the readable versions, in order."""
        yield from self.versions.readable()

    def moves(self, alias: str = CHAMPION) -> tuple[Move, ...]:
        """Return where an alias stands, last, and where it stood before.

        Raises
        ------
        UnknownNameError
            If the text cannot name an alias.
        RecordDamagedError
            If its record cannot be trusted.
        """
        try:
            return self.aliases.load(alias).moves
        except FileNotFoundError:
            return ()
        except ValueError as error:
            raise UnknownNameError(str(error)) from None

    def champion(self) -> ModelVersion | None:
        """Return the version that the alias `champion` stands at, or None."""
        moves = self.moves()
        return self.load(moves[-1].version) if moves else None

    def promote(
        self, version: int, why: str, alias: str = CHAMPION, *, judged_against: int | None = ANY
    ) -> Move:
        """Move an alias to a version; it stands at the old one or the new one, never between.

        Parameters
        ----------
        version, why, alias
            Where to, the reason for the history, and which alias.
        judged_against
            The version that it must stand at, or None where it must stand nowhere; by default
            it may stand anywhere.

        Raises
        ------
        UnknownNameError
            If there is no such version.
        MovedMeanwhileError
            If it stands elsewhere than at `judged_against`.
        """
        model = self.load(version)
        self.root.mkdir(parents=True, exist_ok=True)
        with briefly(self.root / "alias.lock", "the aliases of models"):
            before = self.moves(alias)
            stands_at = before[-1].version if before else None
            if judged_against not in (ANY, stands_at):
                message = (
                    f"expected {alias} to be version {judged_against}, found {stands_at}: it has "
                    "been moved meanwhile"
                )
                raise MovedMeanwhileError(message)
            move = Move(model.version, now(), why)
            self.aliases.save(Alias(alias, (*before, move)))
        return move

    def rollback(self, alias: str = CHAMPION) -> Move:
        """Move an alias back to the version it stood at before; that is a move, too.

        Raises
        ------
        UnknownNameError
            If it has never stood anywhere else.
        """
        moves = self.moves(alias)
        before = previous(moves)
        if before is None:
            message = f"the alias {alias!r} has no earlier version to go back to"
            raise UnknownNameError(message)
        now_at = moves[-1].version
        why = f"rolled back from version {now_at}"
        return self.promote(before, why, alias, judged_against=now_at)

    def references(self) -> Iterator[str]:
        """Yield the digest of every object that a version refers to.

        Raises
        ------
        RecordDamagedError
            If a version or an alias cannot be read, or an alias names a version that is missing.
        """
        versions = set()
        for name, model in self.versions.examined():
            if isinstance(model, RecordDamagedError):
                raise model
            versions.add(int(name))
            yield model.weights.sha256
            yield model.predictions.sha256
        for name, alias in self.aliases.examined():
            if isinstance(alias, RecordDamagedError):
                raise alias
            for missing in {move.version for move in alias.moves} - versions:
                message = f"alias {name} names model version {missing}, whose record is missing"
                raise RecordDamagedError(message)

    def _completed(self, known: ModelVersion, fields: Mapping[str, Any]) -> ModelVersion:
        if known.image_size is not None or fields.get("image_size") is None:
            return known
        of_images = {name: fields[name] for name in ("image_size", "transposed") if name in fields}
        completed = replace(known, **of_images)
        self.versions.save(completed)
        return completed


def previous(moves: tuple[Move, ...]) -> int | None:
    """Return the version to go back to: the one before the last that was not rolled back.

    Going back twice goes back two versions, not to and fro.
    """
    stack: list[int] = []
    for move in moves:
        if len(stack) > 1 and move.why.startswith("rolled back") and stack[-2] == move.version:
            stack.pop()
        elif not stack or stack[-1] != move.version:
            stack.append(move.version)
    return stack[-2] if len(stack) > 1 else None
