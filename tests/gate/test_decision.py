"""The gate's decision as people read it."""

from __future__ import annotations

import numpy as np

from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.history.models import ModelVersion
from digitflow.tasks.data.download.source_check import CHANGED, UNKNOWN, FileAnswer, SourceAnswer
from digitflow.tasks.gate.decision import (
    decision_headline,
    decision_json,
    decision_markdown,
    failed_markdown,
    unchanged_markdown,
)
from digitflow.tasks.gate.rules import Decision, Rules, decide

LABELS = np.repeat([0, 1], 50)
RULES = Rules(0.0, 0.05, 0.95)
BAD = [*range(10)]
DRAWN = SourceAnswer((), {})
CHANGED_DATA = SourceAnswer((FileAnswer("a.gz", CHANGED, "https://a/", "read"),), {})
SILENT = SourceAnswer(
    (FileAnswer("a.gz", UNKNOWN, "", "https://a/: connection refused", False),), {}
)


def model(version: int) -> ModelVersion:
    return ModelVersion(
        version=version,
        created="2026-01-02T03:04:05+00:00",
        run=f"run-{version}",
        preset="quick",
        dataset="MNIST",
        parameters={},
        metrics={},
        training="cd" * 32,
        data={},
        class_names=("zero", "one"),
        weights=Artifact("ab" * 32, 1, "npz"),
        predictions=Artifact("ab" * 32, 1, "npz"),
    )


def judged(wrong: list[int], champion_wrong: list[int] | None) -> Decision:
    def outputs(wrong: list[int]) -> np.ndarray:
        found = np.eye(2)[LABELS]
        found[wrong] = 1 - found[wrong]
        return found

    before = None if champion_wrong is None else outputs(champion_wrong)
    return decide(outputs(wrong), before, LABELS, ("zero", "one"), RULES)


def test_a_rejection_gives_every_number_and_its_reasons() -> None:
    decision = judged(BAD, [12])
    text = decision_markdown(decision, model(3), model(2), CHANGED_DATA)
    assert text.splitlines()[0] == "# Version 3 is rejected; version 2 stays the champion"
    for line in (
        "| every output is a finite number | all are | yes |",
        "| accuracy of at least 0.9500 | 0.9000 | **no** |",
        "| more accurate than the champion by more than one standard error "
        "| -0.0900 ± 0.0321 (1 gained, 10 lost) | **no** |",
        "| no class's recall falls by more than 0.0500 and more than chance explains "
        "| largest fall 0.1800, class zero | **no** |",
        "| trained by | run-2 | run-3 | |",
        "| accuracy | 0.9900 | 0.9000 | -0.0900 |",
        "| right where the other is wrong | 10 | 1 | -9 |",
        "| recall of zero | 0.9800 | 0.8000 | -0.1800 |",
        "| recall of one | 1.0000 | 1.0000 | +0.0000 |",
        "Yes: a.gz.",
        "| a.gz | changed | https://a/: read |",
        "To promote it anyway: `digitflow models promote 3`.",
    ):
        assert line in text.splitlines()
    assert "McNemar's exact test: p = 0.0117, " in text
    assert decision_headline(decision, model(3), model(2)) == (
        "Version 3 is rejected; version 2 stays the champion: accuracy 0.9000 is below the floor, "
        "not more accurate than the champion (-0.0900), recall of zero falls by 0.1800"
    )


def test_a_promotion_says_in_whose_place_and_how_to_go_back() -> None:
    decision = judged([0], [0, 12, 55])
    text = decision_markdown(decision, model(3), model(2), DRAWN)
    assert decision_headline(decision, model(3), model(2)) == (
        "Version 3 is the champion, in place of version 2"
    )
    assert "digitflow models rollback" in text
    assert "**no**" not in text


def test_the_first_model_is_compared_with_nothing() -> None:
    text = decision_markdown(judged([0], None), model(1), None, DRAWN)
    assert "# Version 1 is the champion\n" in text
    assert "| accuracy | – | 0.9900 | |" in text
    assert "McNemar" not in text
    rejected = decision_headline(judged(BAD, None), model(1), None)
    assert rejected == (
        "Version 1 is rejected; there is no champion: accuracy 0.9000 is below the floor"
    )


def test_a_silent_source_is_said_in_every_decision() -> None:
    for text in (
        decision_markdown(judged([0], None), model(1), None, SILENT),
        unchanged_markdown("Nothing new", model(1), SILENT),
        failed_markdown(ValueError("a\nb"), "version 1 stays the champion", SILENT),
    ):
        assert "Not known, or not what the dataset promises" in text
        assert "| a.gz | not known | https://a/: connection refused |" in text


def test_what_people_have_said_is_in_every_decision() -> None:
    said = ["the champion of mnist is on hold since 2025-06-01 by ann@desk: exam | week"]
    for text in (
        decision_markdown(judged([0], None), model(1), None, DRAWN, notices=said),
        unchanged_markdown("Nothing new", model(1), DRAWN, notices=said),
    ):
        assert "is on hold since 2025-06-01 by ann@desk: exam " in text


def test_a_failure_is_quoted_line_by_line() -> None:
    text = failed_markdown(ValueError("first\nsecond"), "no champion yet", None)
    assert "No champion yet." in text
    assert "    ValueError: first\n    second\n" in text


def test_numbers_are_json() -> None:
    assert decision_json(judged(BAD, [12]), RULES) == {
        "metric": "accuracy",
        "accuracy": 0.9,
        "champion_accuracy": 0.99,
        "test_images": 100,
        "gained": 1,
        "lost": 10,
        "p_value": 0.01171875,
        "min_improvement": 0.0,
        "max_class_drop": 0.05,
        "floor": 0.95,
        "unmet": [
            "accuracy of at least 0.9500",
            "more accurate than the champion by more than one standard error",
            "no class's recall falls by more than 0.0500 and more than chance explains",
        ],
        "recalls": {
            "zero": {"champion": 0.98, "challenger": 0.8},
            "one": {"champion": 1.0, "challenger": 1.0},
        },
    }
