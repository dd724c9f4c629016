"""What the gate asks people, and the first answer, as the ledger has them. No server is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from digitflow.flows.cli.app import main
from digitflow.storage.errors import AnsweredError, LedgerError, VerdictError
from digitflow.storage.history.models import LedgerEntry
from digitflow.storage.store import Store
from digitflow.tasks.gate.answer import Answer, wait_for_answer
from digitflow.tasks.gate.approval import Approval
from tests.registered import register

PAST, FUTURE = "2025-06-01T00:00:00.000+00:00", "2999-06-01T00:00:00.000+00:00"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with three versions, of which the first is the champion of mnist."""
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    cache = Store(tmp_path)
    for number in (1, 2, 3):
        register(cache, weights={"weights_1": np.eye(2) * number}, class_names=("a", "b"))
    cache.models.promote(1, "the first")
    return cache


def ask(store: Store, version: int, until: str = FUTURE, **more: Any) -> LedgerEntry:
    """Ask about a version as the gate does; return the question."""
    said = {
        "headline": f"Held: version {version} waits",
        "run": "calm-owl",
        "flow_run": f"flow-run-{version}",
        "champion": 1,
        "version": version,
        "until": until,
        **more,
    }
    chosen = store.models.load(version)
    store.models.verdict("held", chosen, said["headline"], "mnist", by="calm-owl", details=said)
    question = store.models.state().question(chosen)
    assert question is not None
    return question


def champion(store: Store) -> int:
    found = store.models.champion("mnist")
    assert found is not None
    return found.version


def test_a_question_promotes_nothing_and_is_shown(store: Store) -> None:
    question = ask(store, 2)
    assert champion(store) == 1
    (said,) = store.models.state().said_of("mnist")
    assert "a verdict on version 2 of mnist is awaited until 2999-06-01 00:00 UTC" in said
    # A run that begins again knows its own question, and a killed one asks it once.
    assert store.models.state().asked_by("flow-run-2") == question
    assert store.models.state().asked_by("flow-run-3") is None
    assert ask(store, 2) == question


def test_the_first_answer_counts(store: Store) -> None:
    question = ask(store, 2, passed="passed the gate in calm-owl: 0.9")
    store.models.answer(question, "promoted", "looks right", by="ann in the Prefect UI")
    assert champion(store) == 2
    last = store.models.moves("mnist")[-1]
    assert (last.why, last.by) == (
        "passed the gate in calm-owl: 0.9; approved: looks right",
        "ann in the Prefect UI",
    )
    for kind in ("promoted", "rejected"):
        with pytest.raises(AnsweredError, match="was promoted on .* by ann in the Prefect UI"):
            store.models.answer(question, kind, "me, too")
    assert champion(store) == 2
    assert store.models.state().said_of("mnist") == []
    verdict = wait_for_answer(store, question)
    assert (verdict.word, verdict.headline) == (
        "Promoted",
        "Version 2 is the champion, in place of version 1; approved by ann in the Prefect UI: "
        "looks right",
    )


def test_a_rejection_leaves_the_champion_and_the_gate_knows_it(store: Store) -> None:
    question = ask(store, 2, rules={"floor": 0.5})
    store.models.answer(question, "rejected", "blurred", by="bob@desk")
    last = store.models.state().last_verdict("mnist", store.models.load(2))
    assert last is not None
    assert (last.kind, last.by_hand, last.until) == ("rejected", True, "")
    # What it was judged by, so that the next night does not ask again.
    assert (last.details["rules"], last.details["champion"]) == ({"floor": 0.5}, 1)
    with pytest.raises(AnsweredError, match="was rejected on"):
        store.models.answer(question, "promoted", "no, it is fine")
    assert champion(store) == 1
    assert wait_for_answer(store, question).word == "Rejected"


def test_without_an_answer_in_time_the_champion_stays_and_the_ledger_says_so(store: Store) -> None:
    question = ask(store, 2, PAST)
    with pytest.raises(AnsweredError, match="digitflow models promote 2"):
        store.models.answer(question, "promoted", "too late")
    # The run itself, or the next night.
    verdict = wait_for_answer(store, question)
    assert verdict.word == "Held"
    assert "nobody answered until 2025-06-01 00:00 UTC" in verdict.headline
    before = len(store.models.ledger.read())
    store.models.close_late("next-night")
    last = store.models.ledger.read()[-1]
    assert (last.kind, last.by, last.by_hand) == ("held", "calm-owl", False)
    assert len(store.models.ledger.read()) == before
    assert champion(store) == 1
    assert store.models.state().said_of("mnist") == []


def test_the_form_has_the_numbers_whatever_became_of_the_run_that_asked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has them; the run's artifact may never have been left."""
    numbers = {
        "accuracy": 0.9125,
        "champion_accuracy": 0.9,
        "test_images": 8012,
        "gained": 120,
        "lost": 20,
        "unmet": [],
        "doubts": ["the images | are darker"],
        "recalls": {"a": {"champion": 0.8, "challenger": 0.85}},
    }
    question = ask(store, 2, **numbers)
    asked: dict[str, Any] = {}
    monkeypatch.setattr("digitflow.tasks.gate.answer.suspend_flow_run", asked.update)
    wait_for_answer(store, question)
    text = asked["wait_for_input"]._description
    for line in (
        "Held: version 2 waits",
        "| version | 1 | 2 |",
        "| accuracy on the same 8,012 test images | 0.9000 | 0.9125 |",
        "| right where the other is wrong | 20 | 120 |",
        "| recall of a | 0.8000 | 0.8500 |",
        "- In doubt: the images \\| are darker.",
        "Without an answer until 2999-06-01T00:00:00.000+00:00 the champion stays.",
    ):
        assert line in text.splitlines()


def test_a_question_about_another_champion_is_idle(store: Store) -> None:
    question = ask(store, 2)
    store.models.promote(3, "by hand")
    with pytest.raises(AnsweredError, match="the champion of mnist has been moved"):
        store.models.answer(question, "promoted", "looks right")
    assert champion(store) == 3
    verdict = wait_for_answer(store, question)
    assert verdict.word == "Held"
    assert verdict.headline.endswith(
        "needs no answer any more: the champion of mnist has been moved, to version 3"
    )


def test_a_question_about_a_version_that_was_judged_again_says_so(store: Store) -> None:
    question = ask(store, 2)
    later = {"run": "brave-fox", "flow_run": "another"}
    chosen = store.models.load(2)
    store.models.verdict("rejected", chosen, "a class fell", "mnist", by="fox", details=later)
    with pytest.raises(AnsweredError, match="judged again, and was rejected: a class fell"):
        store.models.answer(question, "promoted", "looks right")
    headline = wait_for_answer(store, question).headline
    assert "version 2 has been judged again, and was rejected: a class fell" in headline
    assert "moved" not in headline


def test_two_questions_are_open_at_once_and_one_promotion_ends_both(store: Store) -> None:
    first, second = ask(store, 2), ask(store, 3)
    assert store.models.state().is_open(first)
    store.models.answer(second, "promoted", "the better one")
    assert not store.models.state().is_open(first)


def test_a_hold_stands_against_an_approval(store: Store) -> None:
    question = ask(store, 2)
    store.models.hold("exam week", "mnist")
    with pytest.raises(VerdictError, match="exam week"):
        store.models.answer(question, "promoted", "looks right")
    # Nor is it lost upon whoever has answered in the form.
    given = Answer(verdict="promote", reason="looks right", name="ann")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("digitflow.tasks.gate.answer.suspend_flow_run", lambda **_asked: given)
        verdict = wait_for_answer(store, question)
    assert verdict.word == "Held"
    assert "It was not promoted: the champion of mnist is on hold" in verdict.headline
    assert "exam week" in verdict.headline
    assert store.models.state().is_open(question)


def test_an_answer_given_in_time_counts_however_late_the_run_begins(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = ask(store, 2, PAST)
    given = Answer(verdict="promote", reason="looks right", name="ann")
    monkeypatch.setattr("digitflow.tasks.gate.answer._given", lambda _: given)
    assert wait_for_answer(store, question).word == "Promoted"
    assert champion(store) == 2


def test_what_is_approved_must_be_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    question = ask(store, 2)
    store.objects.path(store.models.load(2).weights.sha256).unlink()
    given = Answer(verdict="promote", reason="looks right", name="ann")
    monkeypatch.setattr("digitflow.tasks.gate.answer._given", lambda _: given)
    verdict = wait_for_answer(store, question)
    assert verdict.word == "Held"
    assert "is missing" in verdict.headline
    assert "digitflow reproduce v2 --restore" in verdict.headline
    assert champion(store) == 1


def test_a_reason_without_end_is_refused(store: Store) -> None:
    question = ask(store, 2)
    with pytest.raises(ValidationError, match="at most 2000 characters"):
        Answer(verdict="reject", reason="x" * 2_001, name="ann")
    with pytest.raises(LedgerError, match="expected at most 16,777,216 bytes, found .*shorter"):
        store.models.answer(question, "rejected", "x" * 9_000_000)
    assert Store(store.root).models.state().is_open(question)


def test_of_two_models_that_ask_about_a_version_its_own_is_answered(store: Store) -> None:
    store.models.promote(1, "the first", "letters")
    said = {"headline": "Held", "run": "calm-owl", "flow_run": "other", "champion": 1}
    about = {**said, "until": FUTURE}
    store.models.verdict("held", store.models.load(2), "Held", "letters", by="r", details=about)
    question = ask(store, 2)
    chosen = store.models.load(2)
    assert store.models.state().question(chosen) == question
    assert question.model == "mnist"
    other = store.models.state().question(chosen, "letters")
    assert other is not None
    assert other.model == "letters"


@pytest.mark.parametrize(
    ("when", "asked"),
    [("never", []), ("when held", ["Held"]), ("always", ["Held", "Promoted"])],
)
def test_when_a_person_is_asked(when: Any, asked: list[str]) -> None:
    words = ("Held", "Promoted", "Rejected", "Unchanged", "Unconfirmed")
    assert [word for word in words if replace(Approval(), when=when).asks(word)] == asked


def test_in_the_terminal(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert main(["models", *arguments]) == code
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    assert "digitflow models promote 2" in said("approve", "2", "--why", "x", code=2)
    ask(store, 2)
    assert "digitflow models approve or reject 2" in said()
    assert "expected a reason" in said("reject", "2", "--why", " ", code=2)
    assert "Version 2 is rejected by" in said("reject", "v2", "--why", "blurred")
    assert champion(store) == 1
    ask(store, 3)
    assert "Version 3 is the champion, in place of version 1; approved by" in said(
        "approve", "3", "--why", "looks right"
    )
    assert champion(store) == 3
    assert json.loads(said("--json"))[0]["champion"]
    assert main(["status"]) == 0
    assert "looks right" in capsys.readouterr().out
