"""The gate for a model of one's own: the Ladder by scores, one ledger, and no way around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from prefect.client.schemas.objects import State

from digitflow import gate, plan, stage
from digitflow.flows.cli.app import main
from digitflow.storage.errors import UnknownNameError
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, compute, using
from digitflow.tasks.gate.rules import Rules, decide, decide_by_scores, improves_scores
from digitflow.tasks.prediction.export import ExportError, export
from digitflow.tasks.prediction.model import Model

LENIENT = Rules(0.0, 1.0, 0.0)
ROWS = 200


@stage(outputs={"rows": "npy"})
def draw(*, seed: int):
    """Draw rows, which know only what they were drawn from."""
    return {"rows": np.full(ROWS, seed)}


@stage(outputs={"model": "json"})
def learn(*, share: float, lucky: int):
    """Learn to be right about a share of any rows, and about more of some."""
    return {"model": {"share": share, "lucky": lucky}}


@stage(outputs={"scores": "npy", "mistaken": "npz"})
def mark(model, rows):
    """Mark each row: right or wrong."""
    share = model["share"] + 0.2 * (rows[0] == model["lucky"])
    scores = (np.arange(len(rows)) < share * len(rows)).astype(float)
    return {"scores": scores, "mistaken": {"scores": scores}}


@stage(outputs={"scores": "npy"})
def remark(model, rows):
    """Mark each row by another metric, by which the one that is right about fewer is better."""
    return {"scores": np.full(len(rows), 1 - model["share"])}


@dataclass(frozen=True)
class Night:
    """One night of a flow of one's own."""

    share: float
    seed: int = 0
    lucky: int = -1

    def __call__(self, marked_by=mark) -> State:
        rows = draw.submit(seed=self.seed)
        learnt = learn.submit(share=self.share, lucky=self.lucky)
        marked = marked_by.submit(learnt["model"], rows["rows"])
        return gate(learnt["model"], marked["scores"], name="coins", metric="hits", floor=0.1)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    cache = Store()
    with using(Context(cache, "night", compute)):
        yield cache


def champion(store: Store) -> int | None:
    found = store.models.champion("coins")
    return None if found is None else found.version


@pytest.mark.parametrize("seed", range(30))
def test_scores_of_0_and_1_are_judged_as_images_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    theirs, ours = (np.where(rng.random(60) < 0.8, labels, 1 - labels) for _ in range(2))
    by_images = decide(np.eye(2)[ours], np.eye(2)[theirs], labels, ("a", "b"), LENIENT)
    by_scores = decide_by_scores(ours == labels, theirs == labels, LENIENT, "accuracy")
    (wanted,) = [each for each in by_images.checks if "than the champion" in each.requirement]
    (found,) = [each for each in by_scores.checks if "than the champion" in each.requirement]
    assert (found.met, found.found) == (wanted.met, wanted.found)
    assert by_scores.challenger_accuracy == by_images.challenger_accuracy
    assert by_scores.only_challenger_right == by_images.only_challenger_right


@pytest.mark.parametrize("seed", range(30))
def test_any_scores_must_be_ahead_by_a_standard_error(seed: int) -> None:
    rng = np.random.default_rng(seed)
    theirs = rng.normal(size=40)
    ours = theirs + rng.normal(0.15, 1.0, size=40)
    each = ours - theirs
    error = each.std(ddof=1) / sqrt(len(each))
    assert improves_scores(ours, theirs, LENIENT, "score").met == (each.mean() > error)


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (np.array([0.1, np.nan, 0.3]), "1 of 3 that are not"),
        (np.array([0.1]), "0 of 1 that are not"),
        (np.ones((3, 2)), r"shape \(3, 2\)"),
        (np.array(["a", "b"]), "<U1"),
    ],
)
def test_what_is_no_score_is_refused(scores: NDArray, found: str) -> None:
    with pytest.raises(ValueError, match=f"expected a finite number for each .*{found}"):
        decide_by_scores(scores, None, LENIENT, "score")


def test_the_champion_is_scored_on_as_many_rows() -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        decide_by_scores(np.ones(3), np.ones(2), LENIENT, "score")


def test_a_worse_model_does_not_take_the_champions_place(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    below = Night(0.05)()
    assert (below.name, below.is_failed()) == ("Rejected", True)
    assert champion(store) is None
    assert Night(0.6)().name == "Promoted"
    assert champion(store) == 2

    worse = Night(0.5)()
    assert (worse.name, worse.is_failed()) == ("Rejected", True)
    assert "not better by hits than the champion (-0.1000)" in str(worse.message)
    assert champion(store) == 2
    # Told once, and by the same commands as of any model.
    assert Night(0.5)().name == "Unchanged"
    assert Night(0.6)().name == "Unchanged"
    capsys.readouterr()
    assert main(["status"]) == 0
    shown = capsys.readouterr().out
    assert "coins: version 2" in shown
    assert "hits 0.6000 on its test rows" in shown
    assert "its hits" in shown
    assert "accuracy" not in shown
    assert main(["why", "v3"]) == 0
    shown = capsys.readouterr().out
    assert "share 0.6 → 0.5" in shown
    assert "20 of 200 test rows: 100, 101," in shown
    assert main(["models"]) == 0
    assert main(["status", "--html", str(tmp_path / "status.html")]) == 0

    better = Night(0.7)()
    assert (better.name, better.is_completed()) == ("Promoted", True)
    assert "in place of version 2" in str(better.message)
    entry = store.models.state().verdicts[-1]
    assert (entry.details["metric"], entry.details["accuracy"]) == ("hits", 0.7)
    assert entry.details["champion_accuracy"] == 0.6
    assert store.models.rollback("by hand").version == 2
    assert Night(0.7)().name == "Unchanged"  # in quarantine


def test_a_hold_is_obeyed(store: Store) -> None:
    Night(0.6)()
    store.models.hold("exam week", "coins")
    held = Night(0.7)()
    assert (held.name, held.is_failed()) == ("Held", True)
    assert champion(store) == 1


def test_luck_with_new_test_rows_is_not_enough(store: Store) -> None:
    Night(0.6)()
    lucky = Night(0.55, seed=1, lucky=1)()
    assert lucky.name == "Rejected"
    (entry,) = store.models.state().verdicts[-1:]
    assert entry.details["accuracy"] == 0.75
    assert entry.details["champion_accuracy"] == 0.6
    assert entry.details["unmet"] == ["the same on the champion's own test rows"]
    assert Night(0.7, seed=2)().name == "Promoted"


def test_lost_test_rows_of_the_champion_hold_the_night(store: Store) -> None:
    Night(0.6)()
    sha256 = store.models.load(1).data["test_rows"]
    store.objects.verify(sha256).unlink()
    held = Night(0.7, seed=1)()
    assert held.name == "Held"
    assert "test rows of the champion, version 1, are not in the store" in str(held.message)
    assert champion(store) == 1


def test_another_metric_judges_anew(store: Store) -> None:
    Night(0.6)()
    assert Night(0.5)().name == "Rejected"
    assert Night(0.5)(marked_by=remark).name == "Promoted"


def test_a_plan_judges_nothing(store: Store) -> None:
    assert [each.cached for each in plan(Night(0.6), store=store)] == [False] * 3
    Night(0.6)()
    before = len(store.models.ledger.read())
    assert [each.cached for each in plan(Night(0.6), store=store)] == [True] * 3
    assert len(store.models.ledger.read()) == before


def test_a_sweep_keeps_what_the_champion_was_tested_on(store: Store) -> None:
    Night(0.6)()
    version = store.models.load(1)
    kept = {*store.models.references()}
    assert {version.weights.sha256, version.predictions.sha256, version.data["test_rows"]} <= kept


def test_what_cannot_be_judged_is_refused() -> None:
    rows, learnt = draw.submit(seed=0), learn.submit(share=0.5, lucky=0)
    marked = mark.submit(learnt["model"], rows["rows"])
    other = learn.submit(share=0.1, lucky=0)
    with pytest.raises(ValueError, match="mark: expected scores of a stage that takes the m"):
        gate(other["model"], marked["scores"], name="coins", metric="hits", floor=0.0)
    with pytest.raises(UnknownNameError, match="name of a model"):
        gate(learnt["model"], marked["scores"], name="Our coins", metric="hits", floor=0.0)


def test_nobody_takes_it_for_a_classifier_of_images(store: Store, tmp_path: Path) -> None:
    Night(0.6)()
    with pytest.raises(UnknownNameError, match="a flow of its own trained"):
        Model.champion("coins")
    with pytest.raises(ExportError, match="only the flow that trained it"):
        export({}, store.models.load(1), tmp_path / "model.npz")
