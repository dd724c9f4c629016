"""Models: what the ledger says of them, and where each named model stands after its entries.

A trained model is a *version*, and is what it is made of: its identity is a digest. Its number, as
in ``v12``, is a handle that the ledger gives it once, so that it means the same on every machine.
A *named model*, such as ``letters``, has one champion. Which, is nowhere written down: it follows
from the entries, as does what is quarantined, and what is on hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from digitflow.storage.digests import digest_json
from digitflow.storage.documents import Document
from digitflow.storage.errors import StorageError
from digitflow.storage.fields import Number, Time
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.ledger import Link, entries

CHAMPION = "champion"
# How the names of what a model was tested on begin.
TEST = "test_"

EntryKind = Literal[
    "trained",  # a model was trained for the first time
    "promoted",  # it became the champion
    "rejected",  # it did not pass the gate
    "held",  # it passed the gate, and did not become the champion: a person is asked
    "rolled-back",  # the champion was taken back, and quarantined
    "quarantine",  # a version must not become a champion
    "hold",  # the champion must not change
    "release",  # the end of a quarantine, or of a hold
    "imported",  # an older registry's aliases were taken over
    "lost",  # stands for an entry that is damaged everywhere
]
_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True)
class ModelVersion(Document):
    """One trained model.

    Attributes
    ----------
    version
        Its number, counted from 1 in its store.
    created
        When it was registered, ISO 8601 in UTC.
    run
        Name of the run that trained it.
    preset, dataset
        As asked for; no preset of a model that a flow of one's own trained.
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
        References to the weights, and to outputs and losses on the test set; of a flow's of one's
        own to the model, in whatever format, and to its scores.
    image_size
        Height and width of the images that it takes, in pixels; None in the record of an older
        digitflow, which did not keep them.
    transposed
        Whether the dataset's files hold their images with rows and columns exchanged. The model
        takes upright ones all the same.
    form
        How the images that it was trained on show what is on them, as JSON values; None in the
        record of an older digitflow, which did not keep it.
    model
        The named model that it was trained for; empty in the record of an older digitflow.
    calibration
        Reference to what tells how sure it may be; None in the record of an older digitflow, and
        where a run ended before that was fitted.
    metric
        Which of `metrics` it is judged by.
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
    form: Mapping[str, Any] | None = None
    model: str = ""
    calibration: Artifact | None = None
    metric: str = "test_accuracy"

    @property
    def is_of_images(self) -> bool:
        """Whether it is a classifier of images, as the pipeline's are; or a flow's of one's own."""
        return bool(self.preset)

    @property
    def score(self) -> float | None:
        """What it is judged by, where that was measured."""
        return self.metrics.get(self.metric)

    @property
    def origin(self) -> str:
        """What it was trained on and from which preset, for people."""
        return ", ".join(filter(None, (self.dataset, self.preset)))

    @property
    def test_data(self) -> dict[str, str]:
        """SHA-256 by name of what it was tested on."""
        return {name: each for name, each in self.data.items() if name.startswith(TEST)}

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """The references to all that it is used by."""
        optional = () if self.calibration is None else (self.calibration,)
        return (self.weights, self.predictions, *optional)

    @cached_property
    def id(self) -> str:
        """What it is, as a digest: the same training of the same data to the same weights."""
        return identity(self.training, self.weights, self.data)

    def lost(self, error: StorageError) -> StorageError:
        """Return an error about one of its objects that says what to do about it."""
        again = f"digitflow reproduce v{self.version} --restore"
        return type(error)(f"{error}; it is made again by {again}")


@dataclass(frozen=True)
class LedgerEntry(Link):
    """One thing that happened to a model.

    Attributes
    ----------
    kind
        What happened.
    at
        When, for people: the order alone decides.
    by
        Who did it: a run, or a person on a machine.
    by_hand
        Whether a person did it.
    reason
        Why, in a sentence.
    model
        The named model that it happened to; empty where it happened to a version alone.
    version
        Identity of the version that it is about, or that an alias moved to.
    trained
        The version, where it is a new one.
    details
        What else there is to say, by name, such as the numbers of a decision.
    token
        Drawn anew for each, so that no two entries are alike.
    """

    kind: EntryKind = "lost"
    at: Time = "1970-01-01T00:00:00.000+00:00"
    by: str = ""
    by_hand: bool = False
    reason: str = ""
    model: str = ""
    version: str = ""
    trained: ModelVersion | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    token: str = ""

    @property
    def said(self) -> str:
        """Since when, by whom and why, as in ``since 2025-06-01 by ann@desk: exam week``."""
        return f"since {self.at[:10]} by {self.by}: {self.reason}"

    @property
    def until(self) -> str:
        """Until when a person is asked for a verdict, ISO 8601 in UTC; empty if nobody is."""
        return str(self.details.get("until", ""))


ENTRIES = entries(LedgerEntry)


def stand_in(order: int, previous: str, stands_for: str | None) -> LedgerEntry:
    """Return the entry that stands for one that is lost."""
    return LedgerEntry(order, previous, stands_for, reason="damaged in every place")


@dataclass(frozen=True)
class Move:
    """One move of a named model's champion: to which version, when, why, and by whom."""

    version: int
    at: str
    why: str
    by: str = ""


@dataclass
class Standing:
    """Where one named model stands.

    Attributes
    ----------
    moves
        Of its champion, from the first to the last.
    back
        Versions that the champion can go back to, the present one last.
    hold
        The entry that put it on hold, or None.
    verdicts
        The gate's, and what people answered where it asked; oldest first.
    questions
        What the gate has asked and nobody has answered, by the version's identity. A move of the
        champion ends them all: they were about another one.
    ended
        What has ended each other question, by its order: its answer, a move of the champion, or
        another verdict on the version.
    """

    moves: list[Move] = field(default_factory=list)
    back: list[str] = field(default_factory=list)
    hold: LedgerEntry | None = None
    verdicts: list[LedgerEntry] = field(default_factory=list)
    questions: dict[str, LedgerEntry] = field(default_factory=dict)
    ended: dict[int, LedgerEntry] = field(default_factory=dict)


class State:
    """What follows from the entries of a ledger, and from nothing else.

    Attributes
    ----------
    versions
        By identity, in the order in which they were first trained.
    standings
        By named model.
    quarantined
        The entries that put versions into quarantine, by the versions' identities.
    lost
        Orders of lost entries that no person has answered yet by promoting a version.
    imported
        Which older registries have been taken over.
    reserved
        Numbers that no new version gets.
    """

    def __init__(self) -> None:
        self.versions: dict[str, ModelVersion] = {}
        self.standings: dict[str, Standing] = {}
        self.quarantined: dict[str, LedgerEntry] = {}
        self.lost: list[int] = []
        self.imported: set[str] = set()
        self.reserved: set[int] = set()
        self._ids: dict[int, str] = {}
        self._names: dict[str, str] = {}
        self._imported_models: set[str] = set()

    @classmethod
    def after(cls, chain: Iterable[LedgerEntry]) -> State:
        """Return the state after all entries."""
        state = cls()
        for entry in chain:
            state.apply(entry)
        return state

    def by_number(self, number: int) -> ModelVersion | None:
        """Return the version of a number, or None."""
        found = self._ids.get(number)
        return None if found is None else self.versions[found]

    def champion(self, model: str) -> ModelVersion | None:
        """Return the champion of a named model, or None if it never had one."""
        standing = self.standings.get(model)
        return self.versions[standing.back[-1]] if standing and standing.back else None

    def with_champions(self) -> list[str]:
        """Return the named models that have a champion."""
        return sorted(name for name, standing in self.standings.items() if standing.back)

    def quarantine(self, version: ModelVersion) -> LedgerEntry | None:
        """Return what put a version, or one of the very same weights, into quarantine; or None."""
        if version.id in self.quarantined:
            return self.quarantined[version.id]
        for each, entry in self.quarantined.items():
            if self.versions[each].weights == version.weights:
                return entry
        return None

    def said_of(self, model: str | None = None) -> list[str]:
        """Return what people have said of a named model, or of all, and not taken back.

        A sentence each: what is on hold, what is in quarantine, and what they are asked.
        """
        holds = [
            f"the champion of {name} is on hold {standing.hold.said}"
            for name, standing in sorted(self.standings.items())
            if standing.hold is not None and model in (None, name)
        ]
        quarantines = [
            f"version {self.versions[each].version} is in quarantine {entry.said}"
            for each, entry in self.quarantined.items()
            if model in (None, self.named(self.versions[each]))
        ]
        questions = [
            f"a verdict on version {self.versions[each].version} of {name} is awaited until "
            f"{entry.until[:16].replace('T', ' ')} UTC: digitflow models approve or reject "
            f"{self.versions[each].version}"
            for name, standing in sorted(self.standings.items())
            for each, entry in standing.questions.items()
            if model in (None, name)
        ]
        return holds + quarantines + questions

    @property
    def verdicts(self) -> list[LedgerEntry]:
        """The gate's verdicts, model by model, oldest first."""
        return [entry for standing in self.standings.values() for entry in standing.verdicts]

    def last_verdict(self, model: str, version: ModelVersion) -> LedgerEntry | None:
        """Return the gate's last word on a version, or on one of the very same weights and data."""
        for entry in reversed(self.standings.get(model, Standing()).verdicts):
            known = self.versions.get(entry.version)
            if known is not None and judged_alike(known, version):
                return entry
        return None

    def question(self, version: ModelVersion, model: str = "") -> LedgerEntry | None:
        """Return what the gate asks about a version; None if it does not.

        Of that model, or of the version's own before any other.
        """
        for name in [model] if model else [self.named(version), *self.standings]:
            standing = self.standings.get(name)
            if standing is not None and version.id in standing.questions:
                return standing.questions[version.id]
        return None

    def asked_by(self, flow_run: str) -> LedgerEntry | None:
        """Return the question of a flow run, answered or not, or None."""
        for entry in reversed(self.verdicts):
            if entry.until and entry.details.get("flow_run") == flow_run:
                return entry
        return None

    def is_open(self, question: LedgerEntry) -> bool:
        """Return whether nobody has answered a question, and nothing has made it idle."""
        return self.standing(question.model).questions.get(question.version) == question

    def answer(self, question: LedgerEntry) -> LedgerEntry | None:
        """Return the entry that answers a question, or None."""
        entry = self.standing(question.model).ended.get(question.order)
        is_answer = entry is not None and entry.details.get("answers") == question.order
        return entry if is_answer else None

    def why_idle(self, question: LedgerEntry) -> str:
        """Return what has ended a question without an answer; empty for one that is open."""
        entry = self.standing(question.model).ended.get(question.order)
        if entry is None:
            return ""
        number = self.versions[entry.version].version
        if entry.kind in ("promoted", "rolled-back"):
            return f"the champion of {question.model} has been moved, to version {number}"
        return f"version {number} has been judged again, and was {entry.kind}: {entry.reason}"

    def next_number(self) -> int:
        """Return the number of the next new version.

        A lost entry may have been a version, whose number must not come to mean another one.
        """
        return max([0, *self._ids, *self.reserved]) + 1

    def apply(self, entry: LedgerEntry) -> None:
        """Go on by one entry."""
        match entry.kind:
            case "trained" if entry.trained is not None:
                self._train(entry.trained, entry.details.get("dataset"))
            case "promoted" if entry.version in self.versions:
                self._move(entry)
                settled = entry.details.get("settles", ())
                self.lost = [each for each in self.lost if each not in settled]
                if not entry.by_hand or "answers" in entry.details:
                    self.standing(entry.model).verdicts.append(entry)
            case "rolled-back" if entry.version in self.versions:
                if (left := entry.details.get("left")) in self.versions:
                    self.quarantined[str(left)] = entry
                self._move(entry)
            case "rejected" | "held":
                standing = self.standing(entry.model)
                standing.verdicts.append(entry)
                if (asked := standing.questions.pop(entry.version, None)) is not None:
                    standing.ended[asked.order] = entry
                if entry.until and entry.version in self.versions:
                    standing.questions[entry.version] = entry
            case "quarantine" if entry.version in self.versions:
                self.quarantined[entry.version] = entry
            case "hold":
                self.standing(entry.model).hold = entry
            case "release" if entry.version:
                self.quarantined.pop(entry.version, None)
            case "release":
                self.standing(entry.model).hold = None
            case "imported":
                self._import(entry)
            case "lost":
                self.lost.append(entry.order)
                self.reserved.add(self.next_number())

    def standing(self, model: str) -> Standing:
        """Return where a named model stands."""
        return self.standings.setdefault(model, Standing())

    def named(self, version: ModelVersion) -> str:
        """Return the named model that a version was trained for."""
        of_title = self._names.get(version.dataset, model_name(version.dataset))
        return version.model or of_title

    def _train(self, version: ModelVersion, dataset: str | None) -> None:
        self.versions[version.id] = version
        self._ids[version.version] = version.id
        if dataset is None or version.dataset in self._names:
            return
        # An older registry knew titles alone: the name that belongs to one is learnt here.
        name, before = model_name(dataset), model_name(version.dataset)
        self._names[version.dataset] = name
        if before in self._imported_models and name not in self.standings:
            self.standings[name] = self.standings.pop(before)

    def _move(self, entry: LedgerEntry) -> None:
        standing = self.standing(entry.model)
        standing.ended |= {each.order: entry for each in standing.questions.values()}
        standing.questions.clear()
        number = self.versions[entry.version].version
        standing.moves.append(Move(number, entry.at, entry.reason, entry.by))
        if entry.kind == "rolled-back" and entry.version in standing.back:
            # Back twice goes back two versions, not to and fro.
            del standing.back[standing.back.index(entry.version) + 1 :]
            return
        if entry.version in standing.back:
            standing.back.remove(entry.version)
        standing.back.append(entry.version)

    def _import(self, entry: LedgerEntry) -> None:
        self.imported.add(str(entry.details["origin"]))
        self.reserved.update(entry.details["reserved"])
        if entry.details["problems"]:
            self.lost.append(entry.order)
        new: set[str] = set()
        for move in entry.details["moves"]:
            version = self.versions.get(entry.details["numbers"].get(str(move["version"])))
            if version is None:
                continue
            model = self.named(version) if move["alias"] == CHAMPION else move["alias"]
            standing = self.standing(model)
            if standing.moves and model not in new:
                continue  # another machine's champion came first
            new.add(model)
            standing.moves.append(Move(version.version, move["at"], move["why"]))
            back = standing.back
            if move["why"].startswith("rolled back") and version.id in back[:-1]:
                del back[back.index(version.id) + 1 :]
            else:
                standing.back = [*(each for each in back if each != version.id), version.id]
        self._imported_models |= new


def judged_alike(one: ModelVersion, other: ModelVersion) -> bool:
    """Tell whether two versions would be judged alike: the same weights, tested on the same."""
    return one.weights == other.weights and tested_alike(one, other)


def tested_alike(one: ModelVersion, other: ModelVersion) -> bool:
    """Tell whether two versions were tested on the same images with the same labels."""
    return one.test_data == other.test_data


def identity(training: str, weights: Artifact, data: Mapping[str, str]) -> str:
    """Return what tells a version from all others."""
    made_of = {"training": training, "weights": weights.sha256, "data": dict(data)}
    return digest_json(made_of)


def is_model_name(text: str) -> bool:
    """Tell whether a text can name a model."""
    return _MODEL_NAME.fullmatch(text) is not None


def model_name(text: str) -> str:
    """Return the name of the model of a dataset; what a name cannot hold becomes a dash."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:100]
    return plain or "model"
