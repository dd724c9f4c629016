"""An ensemble through the pipeline: its members are ordinary trainings, and it is one model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from digitflow.flows.selection import Selection
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.gate.candidate import register_model
from digitflow.tasks.nn.inference.predict import predict, probabilities
from digitflow.tasks.parameters import ParameterError, Parameters, resolve
from digitflow.tasks.reporting.run_summary import RunSummary, find_stage
from tests.walk import TINY, Walk, planned, walk

MEMBERS = [f"train-member-{number}" for number in (1, 2, 3)]


def parameters(preset: str = "quick", **changes: object) -> Parameters:
    small = {**TINY, "validation_size": 10, "batch_size": 8, "members": 3, "seed": 5}
    if preset == "tutorial":
        small = {**TINY, "members": 3}
    return resolve(preset, {**small, **changes})


@pytest.fixture
def done(cache: Store, tiny: Dataset) -> Walk:
    return walk(cache, tiny, parameters())


def test_is_the_mean_of_its_members(cache: Store, done: Walk) -> None:
    assert [label for label in done.results if label.startswith(("train", "comb"))] == [
        *MEMBERS,
        "combine",
    ]
    members = [cache.read(done.output(label, "predictions"))["outputs"] for label in MEMBERS]
    combined = cache.read(done.output("combine", "predictions"))
    expected = np.mean([probabilities(each, "cross_entropy") for each in members], axis=0)
    found = probabilities(combined["outputs"], "cross_entropy")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    labels = cache.read(done.output("preprocess", "test_targets"))
    np.testing.assert_allclose(
        combined["losses"], -np.log(expected[np.arange(20), labels]), rtol=1e-5
    )


def test_a_member_is_the_training_of_its_seed(cache: Store, tiny: Dataset, done: Walk) -> None:
    for number, label in enumerate(MEMBERS):
        alone = walk(cache, tiny, parameters(members=1, seed=5 + number), Selection(until="train"))
        assert alone.results["train"].cached
        assert alone.results["train"].key == done.results[label].key


def test_is_planned_and_grows_by_what_it_lacks(cache: Store, tiny: Dataset, done: Walk) -> None:
    plan = {each.label: each for each in planned(cache, tiny, parameters(), Selection())}
    assert all(each.cached for each in plan.values())
    more = walk(cache, tiny, parameters(members=4))
    assert more.ran == ["train-member-4", "combine", "calibrate", "evaluate", "plot"]
    assert more.started["combine"][0].startswith("input changed: histories[3] (none) → ")
    again = walk(cache, tiny, parameters(members=4), Selection(start="train"))
    assert "combine" in again.ran


def test_is_one_model_to_every_later_stage(
    cache: Store, tiny: Dataset, done: Walk, tmp_path: Path
) -> None:
    stages = tuple(done.results.values())
    made = find_stage(stages, "train")
    assert made is done.results["combine"]
    summary = RunSummary("r", "tiny", "quick", {}, stages, 0.0, {}, tmp_path)
    model = register_model(cache, summary, replace(tiny, transposed=True))
    assert model is not None
    assert model.weights == made.outputs["model"]
    assert (model.image_size, model.transposed) == ((9, 7), True)
    test_inputs = cache.read(done.output("preprocess", "test_inputs"))
    np.testing.assert_array_equal(
        predict(dict(cache.read(model.weights)), test_inputs),
        cache.read(model.predictions)["outputs"],
    )
    history = cache.read(made.outputs["history"])
    assert list(history["epoch"]) == [0, 1]
    alone = [cache.read(done.output(label, "history")) for label in MEMBERS]
    assert history["train_loss"][1] == pytest.approx(np.mean([h["train_loss"][1] for h in alone]))


def test_members_that_were_not_combined_are_no_model(done: Walk) -> None:
    stages = tuple(result for label, result in done.results.items() if label != "combine")
    assert find_stage(stages, "train") is None


def test_members_may_stop_at_different_epochs(cache: Store, tiny: Dataset) -> None:
    early = parameters(epochs=40, patience=1, learning_rate=0.05)
    done = walk(cache, tiny, early, Selection(until="train"))
    lengths = [len(cache.read(done.output(label, "history"))) for label in MEMBERS]
    assert len(set(lengths)) > 1
    assert len(cache.read(done.output("combine", "history"))) == max(lengths)


def test_the_tutorials_network_too(cache: Store, tiny: Dataset) -> None:
    done = walk(cache, tiny, parameters("tutorial"))
    outputs = cache.read(done.output("combine", "predictions"))["outputs"]
    np.testing.assert_allclose(outputs.sum(axis=1), 1)
    model = dict(cache.read(done.output("combine", "model")))
    pixels = cache.read(done.output("preprocess", "test_inputs"))
    np.testing.assert_allclose(predict(model, pixels), outputs)


def test_every_member_has_a_seed() -> None:
    with pytest.raises(ParameterError, match=r"the last one's seed would be .*smaller seed"):
        parameters(seed=2**63 - 2)
