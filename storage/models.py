"""The registry: every trained model a numbered version, and aliases that move between them.

Layout below the store's root::

    models/versions/000001.json   one version; never changed once written, but see `register`
    models/aliases/champion.json  where an alias stands and where it stood, replaced whole

A version refers to its weights and predictions by digest; the sweep of the store keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from digitflow.storage.checksummed import read_sealed, write_sealed
from digitflow.storage.errors import (
    ArtifactError,
    MovedMeanwhileError,
    RecordDamagedError,
    UnknownNameError,
)
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.locks import briefly
from digitflow.storage.records import now

CHAMPION = "champion"
ANY = 0  # no version has this number

_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,49}")
_FILE = re.compile(r"\d{6}\.json")


@dataclass(frozen=True)
class ModelVersion:
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
    metrics: Mapping[str, float]
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


class ModelStore:
    """Model versions and aliases in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def register(self, **fields: Any) -> ModelVersion:
        """Make a trained model a version, or return the version that it is already.

        One that an older digitflow registered without its image size is given it.

        Parameters
        ----------
        **fields
            Those of `ModelVersion`, apart from `version` and `created`.
        """
        versions = self.root / "versions"
        versions.mkdir(parents=True, exist_ok=True)
        with briefly(self.root / "register.lock", "the registry of models"):
            last = 0
            for known in self.oldest_first():
                last = known.version
                if (known.training, known.weights, known.data) == (
                    fields["training"],
                    fields["weights"],
                    fields["data"],
                ):
                    return self._completed(known, fields)
            last = max([last, *(int(path.stem) for path in self._files())])
            model = ModelVersion(version=last + 1, created=now(), **fields)
            self._write(model)
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
        path = self._path(version)
        try:
            body = read_sealed(path)
            for name in ("weights", "predictions"):
                body[name] = Artifact.from_json(body[name])
            body["class_names"] = tuple(body["class_names"])
            if body.get("image_size") is not None:
                height, width = body["image_size"]
                body["image_size"] = (height, width)
            model = ModelVersion(**body)
        except FileNotFoundError:
            known = ", ".join(str(each.version) for each in self.oldest_first()) or "none yet"
            message = f"expected the number of a model version, found {version}; there are {known}"
            raise UnknownNameError(message) from None
        except (TypeError, KeyError, ValueError, ArtifactError) as error:
            message = f"model version {version} is damaged: {path}: {error}"
            raise RecordDamagedError(message) from error
        if model.version != version:
            message = f"model version {version} is damaged: {path} is that of {model.version}"
            raise RecordDamagedError(message)
        return model

    def oldest_first(self) -> Iterator[ModelVersion]:
        """Iterate over the readable versions, in order."""
        for path in self._files():
            try:
                yield self.load(int(path.stem))
            except (RecordDamagedError, UnknownNameError):
                continue

    def damaged(self) -> Iterator[Path]:
        """Iterate over what lies here and cannot be trusted."""
        for path in self._files():
            try:
                self.load(int(path.stem))
            except RecordDamagedError:
                yield path
        for path in sorted(self.root.glob("aliases/*.json")):
            try:
                self.moves(path.stem)
            except (RecordDamagedError, UnknownNameError):
                yield path

    def moves(self, alias: str = CHAMPION) -> tuple[Move, ...]:
        """Return where an alias stands, last, and where it stood before.

        Raises
        ------
        RecordDamagedError
            If its record cannot be trusted.
        """
        path = self._alias(alias)
        try:
            return tuple(Move(**move) for move in read_sealed(path)["moves"])
        except FileNotFoundError:
            return ()
        except (TypeError, KeyError) as error:
            message = f"alias {alias} is damaged: {path}: {error}"
            raise RecordDamagedError(message) from error

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
            moves = [asdict(each) for each in (*before, move)]
            write_sealed(self._alias(alias), {"alias": alias, "moves": moves})
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
        """Yield the digest of every object that a version refers to."""
        for model in self.oldest_first():
            yield model.weights.sha256
            yield model.predictions.sha256

    def _completed(self, known: ModelVersion, fields: Mapping[str, Any]) -> ModelVersion:
        if known.image_size is not None or fields.get("image_size") is None:
            return known
        of_images = {name: fields[name] for name in ("image_size", "transposed") if name in fields}
        completed = replace(known, **of_images)
        self._write(completed)
        return completed

    def _write(self, model: ModelVersion) -> None:
        body = asdict(model)
        for name in ("weights", "predictions"):
            body[name] = getattr(model, name).to_json()
        write_sealed(self._path(model.version), body)

    def _files(self) -> list[Path]:
        folder = self.root / "versions"
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if _FILE.fullmatch(path.name))

    def _path(self, version: int) -> Path:
        return self.root / "versions" / f"{version:06d}.json"

    def _alias(self, alias: str) -> Path:
        if not _ALIAS.fullmatch(alias):
            message = f"expected an alias of lower-case letters, digits, dashes, found {alias!r}"
            raise UnknownNameError(message)
        return self.root / "aliases" / f"{alias}.json"


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
