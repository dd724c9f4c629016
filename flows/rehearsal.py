"""A rehearsal: a fortnight of faults, played on a copy of the champion.

The nights go through the flow `digitflow-retrain` as it is, so that what is rehearsed is the gate
itself. The caller has set the environment for a store of the rehearsal's own; of the user's store
only what the champion needs is copied, and nothing is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from digitflow.flows.pipeline import pipeline
from digitflow.flows.selection import Selection
from digitflow.flows.spec import RunOptions, RunSpec, handing_on
from digitflow.storage.errors import (
    ObjectDamagedError,
    ObjectMissingError,
    RecordDamagedError,
    StorageError,
)
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import LedgerEntry, ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.data import faults
from digitflow.tasks.data.datasets.directory import STEMS, from_directory
from digitflow.tasks.data.faults import Data
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.engine import cancellation
from digitflow.tasks.engine.call import Context, compute, current, using
from digitflow.tasks.engine.events import Event, StageFinished, observing
from digitflow.tasks.gate.candidate import DATA
from digitflow.tasks.parameters import resolve
from digitflow.tasks.recomputation.recompute import bring
from digitflow.tasks.recomputation.reproduce import lost_of

_ROLES = dict(
    zip(("training_images", "training_labels", "test_images", "test_labels"), DATA, strict=True)
)
# What decides nothing, and takes longer than the rest of a small night.
_FEWEST_FIGURES = {"dpi": 40, "gallery_size": 1, "mistakes": 1}
_TOO_SMALL_A_STEP = 1e-12
_SEEDS_APART = 100  # as many as an ensemble can have members
_HONEST = ("Promoted", "Rejected", "Unchanged")


class RehearsalError(Exception):
    """There is no champion to rehearse with."""


@dataclass(frozen=True)
class Night:
    """One night of the fortnight.

    Attributes
    ----------
    title
        What happens.
    ought
        Verdicts that are right.
    kind
        What goes wrong.
    change
        What happens to the data.
    """

    title: str
    ought: tuple[str, ...] = ("Held",)
    kind: Literal["none", "data", "training", "source", "lost", "late"] = "data"
    change: Callable[[Data], Data] = lambda data: data


_ORDINARY = Night("an ordinary night", _HONEST, "none")
NIGHTS = (
    _ORDINARY,
    Night("light and dark exchanged in all images", change=faults.inverted),
    Night("the test images among the training images", change=faults.leaked),
    Night("two classes with each other's labels", change=faults.swapped),
    _ORDINARY,
    Night("a tenth of the training labels wrong", change=faults.poisoned),
    Night("a training that learns nothing", ("Rejected",), "training"),
    Night("a tenth of the images blank", change=faults.blanked),
    Night("a source that is gone", ("Failed",), "source", faults.reversed_order),
    _ORDINARY,
    Night("a champion whose weights are lost", _HONEST, "lost"),
    Night("a champion moved while it is judged against", _HONEST, "late"),
    Night("a quarter of the test images", change=faults.shrunken),
    Night("a class without images", change=faults.without_a_class),
)


@dataclass(frozen=True)
class Played:
    """What became of a night.

    Attributes
    ----------
    number, title, ought
        The night.
    is_fault
        Whether anything goes wrong in it.
    verdict, said
        The gate's, in a word and in its own sentence.
    outcome
        ``right``; ``odd``, where the verdict is another one and the champion stays all the same;
        or ``wrong``, where a fault became the champion.
    caught_by
        Of what is wrong: parameters of the gate that would have prevented it, each by itself.
    seconds
        How long it took.
    """

    number: int
    title: str
    ought: tuple[str, ...]
    is_fault: bool
    verdict: str
    said: str
    outcome: Literal["right", "odd", "wrong"]
    caught_by: tuple[str, ...]
    seconds: float


class Rehearsal:
    """Nights in a folder of their own.

    Parameters
    ----------
    folder
        For the data and the results of each night.
    model
        The named model.
    title, class_names
        Of the data.
    data
        What the nights are about, as `preprocess` gives it.
    options
        Of every night.
    gate
        What the gate is told, as the flow takes it.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        title: str,
        class_names: tuple[str, ...],
        data: Data,
        options: RunOptions,
        gate: Mapping[str, Any],
    ) -> None:
        self._folder = folder
        self._title = title
        self._class_names = class_names
        self._data = data
        self._options = options
        self._gate = {**gate, "model": model}
        self._model = model
        self._written: dict[str, NDArray[Any]] = {}
        self._idle: LedgerEntry | None = None  # the verdict on what had learnt nothing

    @property
    def trainings(self) -> int:
        """How many networks are trained; the lost champion is trained once more."""
        nights = sum(night.kind != "source" for night in NIGHTS)
        again = sum(night.kind == "lost" for night in NIGHTS)
        members = resolve(self._options.preset, self._options.overrides).members
        return (nights + again) * members

    def play(self, retrain: Callable[..., Any]) -> Iterator[Played]:
        """Play night after night.

        Parameters
        ----------
        retrain
            The flow's function.

        Raises
        ------
        RehearsalError
            If the first model of all does not pass the gate.
        StoppedError
            If it was asked to stop.
        """
        for number, night in enumerate(NIGHTS, start=1):
            started = time.perf_counter()
            before = self._standing()
            known = len(Store().models.ledger.read())
            with self._without_weights(night):
                verdict, said, entry = self._play(retrain, number, night, self._gate)
                if before is None:
                    self._check_first(said)
                outcome = self._outcome(night, verdict, entry, before)
            caught_by: tuple[str, ...] = ()
            if outcome == "wrong" and entry is not None and before is not None:
                caught_by = tuple(self._catching(retrain, number, night, before, entry, known))
                # The product's own remedy; what follows is judged against the champion before.
                Store().models.rollback("a rehearsed fault was promoted", self._model)
            yield Played(
                number,
                night.title,
                night.ought,
                night.kind != "none",
                verdict,
                said,
                outcome,
                caught_by,
                round(time.perf_counter() - started, 1),
            )

    def _play(
        self,
        retrain: Callable[..., Any],
        number: int,
        night: Night,
        gate: Mapping[str, Any],
    ) -> tuple[str, str, LedgerEntry | None]:
        """Return the verdict in a word and in a sentence, and the entry of the ledger, if any."""
        if night.kind == "late" and self._idle is None:
            said = "Not played: what learnt nothing has no verdict, so that it cannot be promoted"
            return "Skipped", said, None
        known = len(Store().models.ledger.read())
        spec = self._spec(number, night)
        if night.kind == "source":
            for file in spec.dataset.files:
                (self._folder / "data" / file.name).unlink()
            self._written.clear()
        with handing_on(spec), self._meanwhile(night):
            state = retrain(**spec.options.flow_parameters(), **gate, return_state=True)
        cancellation.check()
        entries = [
            each
            for each in Store().models.ledger.read()[known:]
            if each.kind in ("promoted", "rejected", "held") and not each.by_hand
        ]
        entry = entries[-1] if entries else None
        if night.kind == "training":
            self._idle = entry
        if state.name == "Failed":
            error = state.result(raise_on_failure=False)
            return state.name, f"No decision: the run failed: {' '.join(str(error).split())}", entry
        return state.name, str(state.message), entry

    def _spec(self, number: int, night: Night) -> RunSpec:
        """Write a night's data, and return what is to be run."""
        folder = self._folder / "data"
        folder.mkdir(exist_ok=True)
        changed = night.change(self._data)
        for role, name in _ROLES.items():
            array = changed[name]
            if self._written.get(role) is not array:
                # IDX has no unsigned numbers of two bytes, which more than 256 classes take.
                kept = array if array.dtype == np.uint8 else array.astype(np.int32)
                idx.write(folder / f"{STEMS[role][0]}.gz", kept)
                self._written[role] = array
        dataset = replace(
            from_directory(folder),
            name=self._model,
            title=self._title,
            # All of them, also where a class has lost its images.
            class_names=self._class_names,
            labels=tuple(range(len(self._class_names))),
        )
        changes = {
            "seed": number * _SEEDS_APART,
            "training_sample": 0,
            "test_sample": 0,
            **_FEWEST_FIGURES,
            **({"learning_rate": _TOO_SMALL_A_STEP} if night.kind == "training" else {}),
        }
        overrides = {**self._options.overrides, **changes}
        parameters = resolve(self._options.preset, overrides)
        options = replace(
            self._options,
            dataset=str(folder),
            output=str(self._folder / "results"),
            # As JSON values, which the flow takes.
            overrides=parameters.model_dump(mode="json", include={*overrides}),
        )
        return RunSpec(dataset, parameters, Selection(), dataset.mirrors, options)

    @contextmanager
    def _without_weights(self, night: Night) -> Iterator[None]:
        """Of a night that loses them: have the champion's weights away, and back at its end.

        A champion that was not trained once more is none that later nights could go back to.
        """
        champion = self._standing()
        if night.kind != "lost" or champion is None:
            yield
            return
        aside = self._folder / "weights"
        Store().objects.path(champion.weights.sha256).rename(aside)
        yield
        if not Store().objects.holds(champion.weights.sha256):
            Store().objects.put_back(aside)

    @contextmanager
    def _meanwhile(self, night: Night) -> Iterator[None]:
        """Of a late night: roll a bad champion back while the gate compares with it.

        What had learnt nothing was promoted by hand, so that tonight's model is ahead of it.
        """
        if night.kind != "late" or self._idle is None:
            yield
            return
        idle = Store().models.state().versions[self._idle.version]
        Store().models.promote(idle.version, "a mistake, in a rehearsal", self._model)

        def look(event: Event) -> None:
            # The gate measures tonight's data when it has looked who the champion is.
            if isinstance(event, StageFinished) and event.label == "measure":
                roll_back()

        def roll_back() -> None:
            if self._standing() == idle:
                Store().models.rollback("learnt nothing", self._model)

        with observing(look):
            yield
        roll_back()  # where the night did not come to its gate

    def _outcome(
        self, night: Night, verdict: str, entry: LedgerEntry | None, before: ModelVersion | None
    ) -> Literal["right", "odd", "wrong"]:
        after = self._standing()
        is_new = before is not None and after is not None and after.version > before.version
        details = {} if entry is None else entry.details
        is_right = verdict in night.ought
        # With approval, an honest model waits for a person: nothing was in doubt.
        if night.ought == _HONEST and verdict == "Held":
            is_right = "passed" in details
        if night.kind == "late" and self._idle is not None:
            stale = details.get("champion_accuracy") == self._idle.details["accuracy"]
            return "wrong" if stale and is_new else "odd" if stale or not is_right else "right"
        if night.kind == "lost" and before is not None:
            is_right = is_right and not lost_of(Store(), before)
        elif is_new and night.kind != "none":
            return "wrong"
        return "right" if is_right else "odd"

    def _catching(
        self,
        retrain: Callable[..., Any],
        number: int,
        night: Night,
        before: ModelVersion,
        entry: LedgerEntry,
        known: int,
    ) -> Iterator[str]:
        """Play a night that went wrong again, each time with one rule that is stricter."""
        images = int(entry.details["test_images"])
        gain = (entry.details["gained"] - entry.details["lost"] + 1) / images
        rules = {
            "min_improvement": min(math.ceil(1e4 * gain) / 1e4, 1.0),
            "max_class_drop": 0.0,
            "floor": math.floor(1e3 * before.metrics.get("test_accuracy", 0.0)) / 1e3,
            "approval": "always",
        }
        for name, value in rules.items():
            self._forget_after(known)
            verdict = self._play(retrain, number, night, {**self._gate, name: value})[0]
            if verdict != "Promoted":
                yield f"--{name.replace('_', '-')} {value}"
        self._forget_after(known)
        self._play(retrain, number, night, self._gate)

    def _check_first(self, said: str) -> None:
        """Go on only with a champion, whom a person approves if one is asked."""
        models = Store().models
        for question in [*models.state().standing(self._model).questions.values()]:
            if "passed" in question.details:
                models.answer(question, "promoted", "the first champion of a rehearsal")
        if self._standing() is None:
            message = (
                f"a rehearsal needs a champion, and the first model is none. {said}. Choose other "
                "parameters, as digitflow retrain takes them"
            )
            raise RehearsalError(message)

    def _standing(self) -> ModelVersion | None:
        return Store().models.state().champion(self._model)

    @staticmethod
    def _forget_after(order: int) -> None:
        """Take back what the scratch ledger was told after an entry."""
        root = Store().root
        for folder in ("ledger", "ledger-copies"):
            for file in (root / folder).glob("*.json"):
                if int(file.stem) > order:
                    file.unlink()
        (root / "ledger-head.json").unlink(missing_ok=True)


def copy_champion(real: Store, scratch: Store, champion: ModelVersion, model: str) -> None:
    """Copy a champion with its history, and what it takes to judge it and to train it once more.

    Parameters
    ----------
    real
        The user's store; only read.
    scratch
        An empty one.
    champion, model
        The version, and of which named model it is the champion.

    Raises
    ------
    ObjectMissingError, ObjectDamagedError
        If its weights, predictions or calibration are lost; says what to do.
    """
    chain = real.models.ledger.read()
    for entry in chain:
        scratch.models.ledger.documents.save(entry)
    scratch.models.mark_told(len(chain))
    state = scratch.models.state()
    if state.standing(model).hold is not None:
        scratch.models.release(model, "for a rehearsal")
    try:
        for artifact in champion.artifacts:
            bring(artifact, real, scratch)
    except (ObjectMissingError, ObjectDamagedError) as error:
        raise champion.lost(error) from error
    # What else is not there the gate says, if it needs it.
    earlier = [state.by_number(move.version) for move in state.standing(model).moves]
    wanted = [each.predictions for each in earlier if each is not None]
    for artifact in [*wanted, *_records(real, scratch, champion)]:
        with suppress(ObjectMissingError, ObjectDamagedError):
            bring(artifact, real, scratch)
    for sha256 in champion.data.values():
        with suppress(ObjectMissingError, ObjectDamagedError):
            bring(real.reference(sha256, "npy"), real, scratch)


def champions_data(scratch: Store, champion: ModelVersion) -> Data:
    """Return what a champion was trained and tested on.

    Raises
    ------
    RehearsalError
        If it is no longer in the store.
    """
    try:
        return {name: scratch.read(scratch.reference(champion.data[name], "npy")) for name in DATA}
    except (KeyError, StorageError) as error:
        message = (
            f"the images that version {champion.version}, the champion, was made from are no "
            f"longer in the store ({error}): name a dataset, --dataset NAME"
        )
        raise RehearsalError(message) from error


def prepared_data(real: Store, scratch: Store, spec: RunSpec) -> Data:
    """Return what would be trained and tested on, made in the scratch store.

    Files that the user's store has are taken from there, and others from the dataset's mirrors.
    """
    for file in spec.dataset.files:
        with suppress(ObjectMissingError, ObjectDamagedError):
            bring(Artifact(file.sha256, file.size, "file"), real, scratch)
    with scratch.in_use(), using(Context(scratch, "rehearsal", compute)):
        pipeline(replace(spec, selection=Selection(until="preprocess")))
        done = current().called[-1].result()
    return {name: scratch.read(done.outputs[name]) for name in DATA}


def _records(real: Store, scratch: Store, champion: ModelVersion) -> list[Artifact]:
    """Copy the records of the champion's run; return what it made but for figures."""
    made: list[Artifact] = []
    if not real.runs.kind.is_name(champion.run):
        return made
    with suppress(FileNotFoundError, RecordDamagedError):
        for stage in real.runs.load(champion.run).stages:
            record = real.records.load(stage["stage"], stage["key"])
            if record is not None and record.stage != "plot":
                scratch.records.save(record)
                made += record.outputs.values()
    return made
