"""The registry: versions of trained models, and the moves of their champions.

All of it is read from the ledger and written to it: see `models` and `ledger` beside this.
"""

from __future__ import annotations

import getpass
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from operator import is_not
from typing import Any, Literal

from digitflow.storage.backends.base import Backend
from digitflow.storage.backends.local import LocalBackend
from digitflow.storage.errors import (
    AnsweredError,
    LedgerError,
    MovedMeanwhileError,
    ObjectDamagedError,
    ObjectMissingError,
    UnknownNameError,
    VerdictError,
)
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.ledger import Ledger
from digitflow.storage.history.models import (
    ENTRIES,
    EntryKind,
    LedgerEntry,
    ModelVersion,
    Move,
    State,
    identity,
    is_model_name,
    model_name,
    stand_in,
)
from digitflow.storage.history.old_registry import Found, OldRegistry
from digitflow.storage.records import now

ANY = 0  # no version has this number

Draft = dict[str, Any]


class ModelStore:
    """Model versions, and one champion for each named model.

    Parameters
    ----------
    here
        The store's folder on this machine.
    there
        What lies behind its URL; None for a store in a folder.
    check
        Raises `StorageError` for an object that is missing or damaged.
    """

    def __init__(
        self,
        here: LocalBackend,
        there: Backend | None = None,
        check: Callable[[Artifact], object] = lambda artifact: None,
    ) -> None:
        self.ledger: Ledger[LedgerEntry] = Ledger(ENTRIES, here, there, stand_in)
        self._check = check
        self._is_shared = there is not None
        self._old = OldRegistry(here)
        self._state = State()
        self._applied: list[LedgerEntry] = []

    def state(self) -> State:
        """Return where everything stands after the last entry.

        Raises
        ------
        LedgerError, SharedStoreError
            If the ledger cannot be read.
        """
        self._take_over()
        return self._after(self.ledger.read())

    def register(self, *, model: str = "", dataset_name: str = "", **fields: Any) -> ModelVersion:
        """Make a trained model a version, or return the version that it is already.

        One that an older digitflow registered is given what that did not know.

        Parameters
        ----------
        model
            The named model that it was trained for; by default that of its dataset.
        dataset_name
            The dataset's name, where that is known; its title is one of the fields.
        **fields
            Those of `ModelVersion`, apart from `version` and `created`.

        Raises
        ------
        LedgerError
            If the store cannot keep a ledger.
        """
        model = self.named(model) if model else model_name(dataset_name or fields["dataset"])
        made = identity(fields["training"], fields["weights"], fields["data"])

        def decide(state: State) -> Draft | None:
            known = state.versions.get(made)
            if known is not None:
                completed = self._completed(known, model, fields)
                return None if completed == known else trained(completed)
            number = state.next_number()
            return trained(ModelVersion(version=number, created=now(), model=model, **fields))

        def trained(version: ModelVersion) -> Draft:
            return {
                "kind": "trained",
                "by": version.run,
                "model": model,
                "version": made,
                "trained": version,
                "details": {"dataset": dataset_name} if dataset_name else {},
            }

        self._append(decide)
        return self._state.versions[made]

    def load(self, version: int) -> ModelVersion:
        """Return the version of a number.

        Raises
        ------
        UnknownNameError
            If there is none.
        """
        return self._numbered(self.state(), version)

    def find(self, text: str) -> ModelVersion:
        """Return what a text names: ``12`` or ``v12``, the start of a digest, or a named model.

        Of a named model it is the champion.

        Raises
        ------
        UnknownNameError
            If there is no such version, or several, or the model has no champion.
        LedgerError
            If it is a model, and it is not certain which version is its champion.
        """
        state = self.state()
        if text in state.standings:
            self.check_certain(state)
            return self._champion(state, text)
        if number := re.fullmatch(r"v?(\d{1,9})", text):
            return self._numbered(state, int(number[1]))
        found = [each for each in state.versions.values() if each.id.startswith(text)]
        if len(found) == 1 and re.fullmatch(r"[0-9a-f]{4,64}", text):
            return found[0]
        models = ", ".join(state.with_champions()) or "none yet"
        message = (
            f"expected a model version such as v12, the start of its digest, or a model with a "
            f"champion ({models}); found {text!r}"
        )
        raise UnknownNameError(message)

    def oldest_first(self) -> Iterator[ModelVersion]:
        """Iterate over the versions, in order of their numbers."""
        yield from sorted(self.state().versions.values(), key=lambda each: each.version)

    def moves(self, model: str = "") -> tuple[Move, ...]:
        """Return the moves of a model's champion, last where it stands.

        Raises
        ------
        UnknownNameError
            If no model is named, and several have a champion.
        """
        state = self.state()
        standing = state.standings.get(self._chosen(state, model))
        return tuple(standing.moves) if standing else ()

    def champion(self, model: str = "") -> ModelVersion | None:
        """Return the champion of a named model, or of the only one that has any; or None.

        Raises
        ------
        UnknownNameError
            If no model is named, and several have a champion.
        """
        state = self.state()
        return state.champion(self._chosen(state, model))

    def certain_champion(self, model: str = "") -> ModelVersion | None:
        """Return what `champion` does, if it is certain, from one look at the ledger.

        Raises
        ------
        LedgerError, UnknownNameError
            As `check_certain` and `champion` do.
        """
        state = self.state()
        self.check_certain(state)
        return state.champion(self._chosen(state, model))

    def promote(
        self,
        version: int,
        why: str,
        model: str = "",
        *,
        judged_against: int | None = ANY,
        by: str = "",
        details: Mapping[str, Any] | None = None,
    ) -> Move:
        """Make a version the champion of a named model.

        Parameters
        ----------
        version, why
            Which one, and the reason.
        model
            Of which model; by default of the one that it was trained for.
        judged_against
            Number of the version that must be the champion until then, or None where there must
            be none; by default there may be any.
        by
            The run whose gate decided; by default a person did.
        details
            What led to it.

        Raises
        ------
        UnknownNameError
            If there is no such version.
        MovedMeanwhileError
            If another is the champion than at `judged_against`.
        VerdictError
            If the version is in quarantine, or the champion is on hold.
        LedgerError
            If entries are lost, and it is not a person who decides.
        StorageError
            If the version's weights, predictions or calibration are missing or damaged.
        """
        if not by:  # a person answers for what is lost, which an entry has to say
            self.ledger.read(whole=True)
        chosen = self.load(version)
        model = self.named(model) if model else self._state.named(chosen)
        self._check_sound(chosen)

        def decide(state: State) -> Draft:
            stands_at = self._check_still(state, model, judged_against)
            self._check_free(state, model, chosen, by_hand=not by)
            said = {**(details or {}), "champion": stands_at}
            if state.lost:
                said["settles"] = [*state.lost]
            return {
                "kind": "promoted",
                "by": by,
                "reason": why,
                "model": model,
                "version": chosen.id,
                "details": said,
            }

        return self._moved(decide, model)

    def rollback(self, why: str = "", model: str = "") -> Move:
        """Go back to the champion before; the one that is left goes into quarantine.

        Raises
        ------
        UnknownNameError
            If there is no earlier champion.
        LedgerError
            If the champion is on hold.
        StorageError
            If the earlier champion's weights, predictions or calibration are missing or damaged.
        """
        state = self.state()
        model = self._one(state, model)
        back = state.standing(model).back
        if len(back) < 2:
            message = f"the model {model} has no earlier champion to go back to"
            raise UnknownNameError(message)
        left, to = state.versions[back[-1]], self._earlier(state, back)
        self._check_sound(to)

        def decide(state: State) -> Draft:
            now_at = state.champion(model)
            if now_at is None or now_at.id != left.id:
                message = (
                    f"expected the champion of {model} to be version {left.version}: it has been "
                    "moved meanwhile"
                )
                raise MovedMeanwhileError(message)
            self._check_free(state, model, to, by_hand=True)
            because = f": {why}" if why else ""
            return {
                "kind": "rolled-back",
                "reason": f"rolled back from version {left.version}{because}",
                "model": model,
                "version": to.id,
                "details": {"left": left.id, "champion": left.version},
            }

        return self._moved(decide, model)

    def verdict(
        self,
        kind: EntryKind,
        version: ModelVersion,
        why: str,
        model: str,
        *,
        by: str,
        details: Mapping[str, Any],
        judged_against: int | None = ANY,
    ) -> None:
        """Note, once a run, that the gate did not promote a version: ``rejected`` or ``held``.

        Raises
        ------
        MovedMeanwhileError
            If another is the champion than at `judged_against`: a person would be asked, or told,
            about one that is gone.
        """

        def decide(state: State) -> Draft | None:
            last = state.last_verdict(model, version)
            same = details.get("flow_run"), kind
            if last is not None and (last.details.get("flow_run", ""), last.kind) == same:
                return None  # the run was killed, and judges once more
            self._check_still(state, model, judged_against)
            return {
                "kind": kind,
                "by": by,
                "reason": why,
                "model": model,
                "version": version.id,
                "details": dict(details),
            }

        self._append(decide)

    def answer(
        self,
        question: LedgerEntry,
        kind: Literal["promoted", "rejected", "held"],
        why: str,
        *,
        by: str = "",
        by_hand: bool = True,
        in_time: bool = False,
    ) -> LedgerEntry:
        """Answer what the gate has asked: promote the version, or leave the champion.

        Whoever answers first is the one who has answered.

        Parameters
        ----------
        question
            The gate's entry.
        kind
            ``held`` where the time has passed without a verdict.
        why
            The reason.
        by
            Who answers; by default a person, here.
        by_hand
            Whether that is a person.
        in_time
            Whether it is known to have been given in time, whenever it is written down.

        Raises
        ------
        AnsweredError
            If the question has been answered, the champion has been moved, or the time is over.
        VerdictError
            If the version is to be promoted, and is in quarantine or the champion on hold.
        LedgerError
            If the version is to be promoted, and entries are lost.
        StorageError
            If the version is to be promoted, and its weights, predictions or calibration are
            missing or damaged.
        """
        by = by or person()
        chosen = self.state().versions[question.version]
        if kind == "promoted":
            self._check_sound(chosen)

        def decide(state: State) -> Draft:
            champion = state.champion(question.model)
            number = None if champion is None else champion.version
            stays = f"version {number} stays the champion" if champion else "there is no champion"
            match kind:
                case "promoted":
                    instead = f", in place of version {number}" if champion else ""
                    said = f"Version {chosen.version} is the champion{instead}; approved by {by}"
                case "rejected":
                    said = f"Version {chosen.version} is rejected by {by}; {stays}"
                case "held":
                    said = f"Held: version {chosen.version} is not promoted; {stays}"
            self._check_open(state, question, chosen, late=kind == "promoted" and not in_time)
            if kind == "promoted":
                self._check_free(state, question.model, chosen, by_hand=False)
            details = {**question.details, "headline": f"{said}: {why}", "answers": question.order}
            del details["until"]
            passed = str(details.pop("passed", ""))
            return {
                "kind": kind,
                "by": by,
                "by_hand": by_hand,
                # A champion that has passed the gate as well is one of its line.
                "reason": f"{passed}; approved: {why}" if passed and kind == "promoted" else why,
                "model": question.model,
                "version": question.version,
                "details": details,
            }

        self._append(decide)
        return self._applied[-1]

    def close_late(self, by: str) -> None:
        """Note of each question whose time is over that nobody has answered."""
        for standing in [*self.state().standings.values()]:
            for question in [*standing.questions.values()]:
                if question.until < now():
                    with suppress(AnsweredError):  # somebody else has noted it meanwhile
                        why = f"nobody answered until {question.until[:16].replace('T', ' ')} UTC"
                        self.answer(question, "held", why, by=by, by_hand=False)

    def quarantine(self, version: int, why: str) -> ModelVersion:
        """Let nothing promote a version, nor one of the same weights, until it is released.

        Raises
        ------
        LedgerError
            If it is the champion of a model.
        """
        chosen = self.load(version)

        def decide(state: State) -> Draft:
            for model in state.with_champions():
                if state.champion(model) == chosen:
                    message = (
                        f"version {version} is the champion of {model}: digitflow models rollback "
                        "puts it in quarantine and goes back to the champion before"
                    )
                    raise LedgerError(message)
            return {"kind": "quarantine", "reason": why, "version": chosen.id}

        self._append(decide)
        return chosen

    def hold(self, why: str, model: str = "") -> str:
        """Let nothing change the champion of a model until it is released; return its name."""
        model = self._one(self.state(), model)
        self._append(lambda state: {"kind": "hold", "reason": why, "model": model})
        return model

    def release(self, what: str, why: str = "") -> str:
        """End the hold of a model or the quarantine of a version; return what was released.

        Raises
        ------
        UnknownNameError
            If it is neither on hold nor in quarantine.
        MovedMeanwhileError
            If somebody else has released it meanwhile, or set it anew.
        """
        state = self.state()
        standing = state.standings.get(what)
        if standing is not None:
            held = standing.hold
            if held is None:
                message = f"the model {what!r} is not on hold"
                raise UnknownNameError(message)
            self._append(
                lambda state: self._release(what, why, held, state.standing(what).hold, model=what)
            )
            return f"the champion of {what}"
        version = self.find(what)
        entry = state.quarantine(version)
        if entry is None:
            message = f"version {version.version} is not in quarantine"
            raise UnknownNameError(message)
        # It may be another version of the same weights that is in quarantine.
        for each, seen in [*state.quarantined.items()]:
            if each == version.id or state.versions[each].weights == version.weights:
                self._append(
                    lambda state, each=each, seen=seen: self._release(  # type: ignore[misc]
                        what, why, seen, state.quarantined.get(each), version=each
                    )
                )
        return f"version {version.version}"

    @staticmethod
    def _release(
        what: str, why: str, seen: LedgerEntry, stands: LedgerEntry | None, **of: str
    ) -> Draft:
        """Return what ends the hold or quarantine that was seen, and none that was set since."""
        if stands != seen:
            now_so = f"is now so {stands.said}" if stands else "has been released"
            message = (
                f"expected {what} as it was put on hold or in quarantine {seen.said}; it {now_so}"
            )
            raise MovedMeanwhileError(message)
        return {"kind": "release", "reason": why, **of}

    def told(self) -> int:
        """Return up to which entry of the ledger automations have been told."""
        return self.ledger.told()

    def mark_told(self, order: int) -> None:
        """Note that automations have been told of all entries up to this one."""
        self.ledger.mark_told(order)

    def references(self) -> Iterator[str]:
        """Yield the digest of every object that a version refers to.

        Of a champion, and of the one that a rollback would go back to, also what it was trained
        and tested on: challengers are judged by that.

        Raises
        ------
        LedgerError
            If an entry is lost and no person has answered by promoting a version: another one,
            that nothing else knows of, may have been in it.
        """
        self._take_over()
        state = self._after(self.ledger.read(whole=True))
        self.check_certain(state)
        for version in state.versions.values():
            yield from (each.sha256 for each in version.artifacts)
        for version in self._champions(state):
            yield from version.data.values()

    def reproducible(self) -> list[ModelVersion]:
        """Return the versions that `digitflow reproduce` must be able to train once more.

        They are champions, those that a rollback would go back to, and the versions that are in
        quarantine or await an answer.
        """
        state = self.state()
        asked = (version for each in state.standings.values() for version in each.questions)
        others = {*state.quarantined, *asked}
        return [
            *self._champions(state),
            *(state.versions[each] for each in others if each in state.versions),
        ]

    def references_here(self) -> Iterator[str]:
        """Yield the same as far as this machine knows, without a look at a shared store."""
        if not self._is_shared:
            yield from self.references()
            return
        (mirror,) = self.ledger.here()
        versions = [each.trained for each in mirror.readable() if each.trained is not None]
        old = self._old.read(str(self.ledger))
        for version in [*versions, *(old.versions if old else ())]:
            yield from (each.sha256 for each in version.artifacts)

    def check_certain(self, state: State) -> None:
        """Refuse to go on from a champion of whom it is not certain that he still is.

        Raises
        ------
        LedgerError
            If entries are lost, and no person has answered by promoting a version.
        """
        if state.lost:
            raise LedgerError(lost_entries(state, self.ledger))

    @staticmethod
    def _check_still(state: State, model: str, judged_against: int | None) -> int | None:
        """Return where the champion stands, which must be where a model was judged against it."""
        champion = state.champion(model)
        stands_at = None if champion is None else champion.version
        if judged_against not in (ANY, stands_at):
            message = (
                f"expected the champion of {model} to be version {judged_against}, found "
                f"{stands_at}: it has been moved meanwhile"
            )
            raise MovedMeanwhileError(message)
        return stands_at

    def _check_free(self, state: State, model: str, version: ModelVersion, by_hand: bool) -> None:
        if not by_hand:
            self.check_certain(state)
        hold = state.standing(model).hold
        if hold is not None:
            message = (
                f"the champion of {model} is on hold {hold.said}. To let it change: digitflow "
                f"models release {model}"
            )
            raise VerdictError(message)
        entry = state.quarantine(version)
        if entry is not None:
            message = (
                f"version {version.version} is in quarantine {entry.said}. To let it be promoted: "
                f"digitflow models release {version.version}"
            )
            raise VerdictError(message)

    @staticmethod
    def _check_open(
        state: State, question: LedgerEntry, version: ModelVersion, *, late: bool
    ) -> None:
        answer = state.answer(question)
        if answer is not None:
            message = (
                f"version {version.version} was {answer.kind} on {answer.at[:10]} by {answer.by}: "
                f"{answer.reason}"
            )
            raise AnsweredError(message)
        if why := state.why_idle(question):
            message = f"the question needs no answer any more: {why}"
            raise AnsweredError(message)
        if late and question.until < now():
            message = (
                f"a verdict on version {version.version} was awaited until "
                f"{question.until[:16].replace('T', ' ')} UTC. To promote it all the same: "
                f"digitflow models promote {version.version}"
            )
            raise AnsweredError(message)

    def _check_sound(self, version: ModelVersion) -> None:
        for artifact in version.artifacts:
            try:
                self._check(artifact)
            except (ObjectMissingError, ObjectDamagedError) as error:
                raise version.lost(error) from error

    def _champions(self, state: State) -> Iterator[ModelVersion]:
        """Yield each model's champion, and the one that a rollback would go back to."""
        for model in state.with_champions():
            back = state.standing(model).back
            yield state.versions[back[-1]]
            before = self._before(state, back)
            if before is not None:
                yield before

    @staticmethod
    def _before(state: State, back: list[str]) -> ModelVersion | None:
        """Return the last champion before the present one that is not in quarantine, or None."""
        earlier = (state.versions[each] for each in reversed(back[:-1]))
        return next((each for each in earlier if state.quarantine(each) is None), None)

    def _earlier(self, state: State, back: list[str]) -> ModelVersion:
        """Return what a rollback goes back to."""
        found = self._before(state, back)
        if found is not None:
            return found
        numbers = ", ".join(str(state.versions[each].version) for each in back[:-1])
        message = (
            f"every earlier champion is in quarantine (versions {numbers}); release one: digitflow "
            "models release VERSION"
        )
        raise UnknownNameError(message)

    def _moved(self, decide: Callable[[State], Draft], model: str) -> Move:
        self._append(decide)
        return self._state.standing(model).moves[-1]

    def _append(self, decide: Callable[[State], Draft | None]) -> None:
        self._take_over()
        self._append_only(decide)

    def _append_only(self, decide: Callable[[State], Draft | None]) -> None:
        def make(chain: list[LedgerEntry]) -> Callable[[int, str], LedgerEntry] | None:
            draft = decide(self._after(chain))
            if draft is None:
                return None
            by = draft.pop("by", "")
            said = {"by": by or person(), "by_hand": not by, "at": now(), **draft}
            token = secrets.token_hex(8)
            return lambda order, previous: LedgerEntry(order, previous, token=token, **said)

        entry = self.ledger.append(make)
        if entry is not None:
            self._apply(entry)

    def _after(self, chain: list[LedgerEntry]) -> State:
        """Return the state after these entries, from that after the first of them if possible."""
        known = len(self._applied)
        if known > len(chain) or any(map(is_not, self._applied, chain)):
            self._state, self._applied, known = State(), [], 0
        for entry in chain[known:]:
            self._apply(entry)
        return self._state

    def _apply(self, entry: LedgerEntry) -> None:
        self._state.apply(entry)
        self._applied.append(entry)

    def _take_over(self) -> None:
        """Take an older registry into the ledger, once."""
        found = None if self.ledger.is_read_only else self._old.read(str(self.ledger))
        if found is None:
            return
        if found.origin not in self._after(self.ledger.read()).imported:
            self._import(found)
        self._old.mark_read(found.origin, str(self.ledger))

    def _import(self, found: Found) -> None:
        for version in found.versions:
            self._import_version(version)
        details = {
            "origin": found.origin,
            "moves": found.moves,
            "numbers": {str(version.version): version.id for version in found.versions},
            "reserved": found.reserved,
            "problems": found.problems,
        }

        def decide(state: State) -> Draft | None:
            if found.origin in state.imported:
                return None
            reason = "the registry of an older digitflow"
            return {"kind": "imported", "by": "digitflow", "reason": reason, "details": details}

        self._append_only(decide)

    def _import_version(self, version: ModelVersion) -> None:
        def decide(state: State) -> Draft | None:
            if version.id in state.versions:
                return None
            is_free = state.by_number(version.version) is None
            number = version.version if is_free else state.next_number()
            return {
                "kind": "trained",
                "by": version.run or "digitflow",
                "model": state.named(version),
                "version": version.id,
                "trained": replace(version, version=number),
            }

        self._append_only(decide)

    @staticmethod
    def _completed(known: ModelVersion, model: str, fields: Mapping[str, Any]) -> ModelVersion:
        if not known.model:
            known = replace(known, model=model)
        if known.form is None:
            known = replace(known, form=fields.get("form"))
        if known.calibration is None:
            known = replace(known, calibration=fields.get("calibration"))
        if known.image_size is not None or fields.get("image_size") is None:
            return known
        of_images = {name: fields[name] for name in ("image_size", "transposed") if name in fields}
        return replace(known, **of_images)

    def _numbered(self, state: State, version: int) -> ModelVersion:
        found = state.by_number(version)
        if found is None:
            known = ", ".join(map(str, sorted(each.version for each in state.versions.values())))
            message = (
                f"expected the number of a model version, found {version}; there are "
                f"{known or 'none yet'}"
            )
            raise UnknownNameError(message)
        return found

    def _chosen(self, state: State, model: str) -> str:
        if model:
            return self.named(model)
        found = state.with_champions()
        if len(found) > 1:
            message = f"several models have a champion: {', '.join(found)}; name one of them"
            raise UnknownNameError(message)
        return found[0] if found else ""

    def _one(self, state: State, model: str) -> str:
        """Return the named model that is meant, which must be known."""
        chosen = self._chosen(state, model)
        if chosen not in state.standings:
            known = ", ".join(sorted(state.standings)) or "none yet"
            message = f"expected the name of a model with a champion, of {known}; found {model!r}"
            raise UnknownNameError(message)
        return chosen

    def _champion(self, state: State, model: str) -> ModelVersion:
        found = state.champion(model)
        if found is None:
            message = f"the model {model!r} has no champion yet: digitflow models promote VERSION"
            raise UnknownNameError(message)
        return found

    @staticmethod
    def named(model: str) -> str:
        """Return the name of a model; `UnknownNameError` if the text cannot be one."""
        if not is_model_name(model):
            message = (
                "expected the name of a model, of lower-case letters, digits, dots, dashes and "
                f"underscores, found {model!r}"
            )
            raise UnknownNameError(message)
        return model


def lost_entries(state: State, ledger: Ledger[LedgerEntry]) -> str:
    """Return what is to be said, and to be done, where entries are lost."""
    which = ", ".join(map(str, state.lost[:8])) + (", …" if len(state.lost) > 8 else "")
    what = "entry" if len(state.lost) == 1 else "entries"
    champions = [
        f"version {state.champion(model).version} of {model}"  # type: ignore[union-attr]
        for model in state.with_champions()
    ]
    last = f"What is left says: {', '.join(champions)}" if champions else "What is left names none"
    return (
        f"{what} {which} of {ledger} lost, and with them perhaps which model is the champion. "
        f"{last}. Restore the files if there is a backup; if not, say which version is to be the "
        "champion: digitflow models promote VERSION (digitflow run registers what it trains again)"
    )


def person() -> str:
    """Return who is at work here, for people: a name of an account and of a machine."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        name = "somebody"
    return f"{name}@{socket.gethostname()}"
