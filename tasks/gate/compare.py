"""A challenger beside the champion: on which images, by what data, and what to expect of them.

Both are judged on tonight's test images and, where the champion was promoted by others, on those
too: they are pinned in the store. The reserve of the test images (`tasks.gate.reserve`) is kept out
of it until somebody is promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from digitflow.storage.errors import ObjectDamagedError, ObjectMissingError
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.data.measures import Agreement, Measures, digests
from digitflow.tasks.gate.candidate import DATA
from digitflow.tasks.gate.data import DataCheck, champion_holds, judge_data, level_holds
from digitflow.tasks.gate.reserve import Expected, expect, in_reserve
from digitflow.tasks.gate.rules import Decision, Rules, also_better, decide, right_answers
from digitflow.tasks.reporting.run_summary import RunSummary
from digitflow.tasks.stages.compare_labels import compare_labels
from digitflow.tasks.stages.measure import measure
from digitflow.tasks.stages.score import score


@dataclass(frozen=True)
class Standing:
    """What is known of a champion's accuracy.

    Attributes
    ----------
    version
        Its number.
    accuracy, images
        On the test images that it was compared by, and how many they are.
    expected
        What to expect of it on new images; None where nothing is held in reserve, or where its own
        test images are no longer in the store.
    looks
        How many models have been judged by these test images, it included.
    """

    version: int
    accuracy: float
    images: int
    expected: Expected | None
    looks: int

    def __str__(self) -> str:
        found = f"Version {self.version}: {self.accuracy:.4f} on the {self.images:,} test images"
        looked = f"{self.looks:,} model{'s have' if self.looks > 1 else ' has'} been judged by them"
        if self.expected is None:
            return f"{found}; what to expect on new ones is not known. {looked}."
        return (
            f"{found}, {self.expected} expected on new ones (in 95 of 100 cases, by "
            f"{self.expected.images:,} more images that are scored at a promotion only). {looked}."
        )


@dataclass(frozen=True)
class Comparison:
    """What the gate found.

    Attributes
    ----------
    decision
        About the models, on tonight's test images.
    data
        The requirements on the data.
    standing
        Of the one that is the champion then; None if nobody is.
    """

    decision: Decision
    data: tuple[DataCheck, ...]
    standing: Standing | None

    @property
    def word(self) -> Literal["Promoted", "Rejected", "Held"]:
        """The verdict: where the data is in doubt, no comparison of models says anything."""
        if self.doubts:
            return "Held"
        return "Promoted" if self.decision.promoted else "Rejected"

    @property
    def doubts(self) -> tuple[DataCheck, ...]:
        """The requirements on the data that are not met."""
        return tuple(check for check in self.data if not check.met)

    def to_json(self) -> dict[str, Any]:
        """Return what is not in the decision as JSON values, for notifications."""
        standing = None if self.standing is None else asdict(self.standing)
        return {"standing": standing, "doubts": [check.complaint for check in self.doubts]}


@dataclass(frozen=True)
class _TestSet:
    """Test images with their classes, and which of them are held in reserve."""

    images: NDArray[np.uint8]
    classes: NDArray[np.integer[Any]]
    reserve: NDArray[np.bool_]

    @classmethod
    def of(cls, images: NDArray[np.uint8], classes: NDArray[np.integer[Any]]) -> _TestSet:
        reserve = in_reserve(images)
        # Of a handful of images all might be in it: then there is none.
        return cls(images, classes, reserve & ~reserve.all())


def compare(
    cache: Store,
    summary: RunSummary,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    rules: Rules,
    lineage: Sequence[ModelVersion] = (),
) -> Comparison:
    """Judge the data and both models.

    Parameters
    ----------
    cache
        The store.
    summary
        The run that trained the challenger.
    challenger, champion
        Both models; None if there is no champion yet.
    rules
        What the gate requires.
    lineage
        The champions that led to this one, without any that a person went back from, since a
        person promoted one by hand.
    """
    tonight = {name: _output(summary, "preprocess", name) for name in DATA}
    now = _TestSet.of(cache.read(tonight["test_inputs"]), cache.read(tonight["test_targets"]))
    outputs = _outputs(cache, challenger)
    run, judged = summary.name, ~now.reserve
    data = [*_judge_data(cache, tonight, challenger, champion, run)]
    theirs = pinned = None
    if champion is not None:
        pinned, missing = _pinned(cache, champion, tonight, now)
        data += missing
        theirs = (
            _outputs(cache, champion)
            if pinned is now
            else _score(cache, champion, tonight["test_inputs"], "score-champion", run)
        )
    decision = decide(
        outputs[judged],
        None if theirs is None else theirs[judged],
        now.classes[judged],
        challenger.class_names,
        rules,
    )
    right = right_answers(outputs, now.classes)
    better = int(right[judged].sum())
    if theirs is not None:
        better = max(better, int(right_answers(theirs, now.classes)[judged].sum()))
    data += _level(cache, better, int(judged.sum()), lineage)
    if champion is not None and theirs is not None and pinned is not None and pinned is not now:
        data += _champion_on_new(cache, champion, theirs, now, pinned)
        own = _score(cache, challenger, _reference(cache, champion, "test_inputs"), "score", run)
        shown = ~pinned.reserve
        check = also_better(
            own[shown],
            _outputs(cache, champion)[shown],
            pinned.classes[shown],
            challenger.class_names,
            rules,
        )
        checks = (*decision.checks, check)
        decision = replace(decision, checks=checks, promoted=all(each.met for each in checks))
    found = Comparison(decision, tuple(data), None)
    if found.word == "Promoted":
        standing: Standing | None = _standing(cache, challenger, right, now)
    else:
        standing = None if champion is None else champions_standing(cache, champion, pinned)
    return replace(found, standing=standing)


def champions_standing(
    cache: Store, champion: ModelVersion, pinned: _TestSet | None = None
) -> Standing | None:
    """Return what is known of a champion; None if its own test images are no longer there."""
    if pinned is None:
        try:
            pinned = _read_pinned(cache, champion)
        except (ObjectMissingError, ObjectDamagedError):
            return None
    right = right_answers(_outputs(cache, champion), pinned.classes)
    return _standing(cache, champion, right, pinned)


def _standing(
    cache: Store, model: ModelVersion, right: NDArray[np.bool_], test: _TestSet
) -> Standing:
    judged = right[~test.reserve]
    looks = sum(
        each.data.get("test_inputs") == model.data["test_inputs"]
        for each in cache.models.oldest_first()
    )
    return Standing(
        model.version, float(judged.mean()), len(judged), expect(right[test.reserve]), looks
    )


def _judge_data(
    cache: Store,
    tonight: dict[str, Artifact],
    challenger: ModelVersion,
    champion: ModelVersion | None,
    run: str,
) -> tuple[DataCheck, ...]:
    """Measure the data of both, from the cache where it can be, and compare."""
    then: Measures | None = None
    agreement: Agreement | None = None
    classes = {"classes": len(challenger.class_names)}
    if champion is not None:
        try:
            before = {name: _reference(cache, champion, name) for name in DATA}
            given = measure.run(cache, "measure-champion", before, classes, run=run)
            then = _validated(Measures, cache.read(given.outputs["measures"]))
            both = {**tonight, **{f"{name}_then": each for name, each in before.items()}}
            agreed = compare_labels.run(cache, "compare-labels", both, {}, run=run)
            agreement = _validated(Agreement, cache.read(agreed.outputs["agreement"]))
        except (ObjectMissingError, ObjectDamagedError):
            pass  # judged by itself; whether the test images can be compared is a check of its own
    measured = measure.run(cache, "measure", tonight, classes, run=run)
    now = _validated(Measures, cache.read(measured.outputs["measures"]))
    return judge_data(now, then, agreement, challenger.class_names)


def _pinned(
    cache: Store, champion: ModelVersion, tonight: dict[str, Artifact], now: _TestSet
) -> tuple[_TestSet | None, list[DataCheck]]:
    """Return the champion's own test images, or the check that says that they are not there."""
    if all(
        champion.data.get(name) == tonight[name].sha256 for name in ("test_inputs", "test_targets")
    ):
        return now, []
    try:
        return _read_pinned(cache, champion), []
    except (ObjectMissingError, ObjectDamagedError) as error:
        lost = (
            f"the test images of the champion, version {champion.version}, are not in the store "
            "any more, and tonight's are others"
        )
        return None, [
            DataCheck("the champion's own test images are in the store", str(error), False, lost,
                      "test data")
        ]  # fmt: skip


def _read_pinned(cache: Store, champion: ModelVersion) -> _TestSet:
    return _TestSet.of(
        cache.read(_reference(cache, champion, "test_inputs")),
        cache.read(_reference(cache, champion, "test_targets")),
    )


def _champion_on_new(
    cache: Store,
    champion: ModelVersion,
    outputs: NDArray[Any],
    now: _TestSet,
    pinned: _TestSet,
) -> list[DataCheck]:
    """Ask whether the champion is as good on the test images that its own do not have."""
    known = {*digests(pinned.images)}
    new = np.array([each not in known for each in digests(now.images)], bool) & ~now.reserve
    if not new.any():
        return []
    right = right_answers(outputs, now.classes)[new]
    own = right_answers(_outputs(cache, champion), pinned.classes)[~pinned.reserve]
    return [champion_holds(int(right.sum()), len(right), int(own.sum()), len(own))]


def _level(
    cache: Store, right: int, images: int, lineage: Sequence[ModelVersion]
) -> list[DataCheck]:
    """Compare with the most accurate of the champions before, on the test images of its day."""
    if not lineage:
        return []
    best = max(lineage, key=lambda each: each.metrics.get("test_accuracy", 0.0))
    tested = len(_outputs(cache, best))
    hits = round(best.metrics.get("test_accuracy", 0.0) * tested)
    return [level_holds(right, images, hits, tested)]


def _outputs(cache: Store, model: ModelVersion) -> NDArray[Any]:
    return np.asarray(cache.read(model.predictions)["outputs"])


def _score(
    cache: Store, model: ModelVersion, images: Artifact, label: str, run: str
) -> NDArray[Any]:
    given = {"model": model.weights, "test_inputs": images}
    scored = score.run(cache, label, given, {}, run=run)
    return np.asarray(cache.read(scored.outputs["outputs"]))


def _reference(cache: Store, model: ModelVersion, name: str) -> Artifact:
    """Return a reference to what a model was trained or tested on: of that the digest is known."""
    sha256 = model.data.get(name)
    if sha256 is None:
        message = f"what version {model.version} was trained on is not on record: {name}"
        raise ObjectMissingError(message)
    return cache.reference(sha256, "npy")


def _output(summary: RunSummary, stage: str, name: str) -> Artifact:
    artifact = summary.output(stage, name)
    if artifact is None:
        message = f"expected a run with the stage {stage}, found one without"
        raise ValueError(message)
    return artifact


def _validated(kind: Any, document: Any) -> Any:
    return TypeAdapter(kind).validate_python(document)
