"""What a model says of pictures: the pure part, without the command and the flow."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from digitflow.storage.errors import UnknownNameError
from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.data.pictures.batch import Batch
from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.prediction.model import Model
from digitflow.tasks.prediction.predictions import (
    Prediction,
    count_unsure,
    predictions_csv,
    predictions_json,
)
from tests.registered import register

NAMES = ("zero", "one", "two")
# Of an image of 2 × 2 pixels, the first three are the outputs.
WEIGHTS = {"weights_1": np.eye(4), "weights_2": np.eye(4)[:, :3]}
UNREADABLE = (("bad.png", "the picture is damaged"),)


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def model(cache: Store) -> ModelVersion:
    return register(cache, weights=WEIGHTS, class_names=NAMES)


@pytest.fixture
def batch() -> Batch:
    images = np.zeros((3, 2, 2), np.uint8)
    images[0] = [[0, 51], [204, 9]]
    images[1] = [[255, 255], [0, 0]]
    is_blank = np.array([False, False, True])
    return Batch(("a.png", "b.png", "c.png"), images, is_blank, UNREADABLE)


def test_class_probability_runner_up(cache: Store, model: ModelVersion, batch: Batch):
    a, b, c = Model(model, cache).predict_batch(batch)
    assert a == Prediction("a.png", "two", pytest.approx(0.8), "one", pytest.approx(0.2))
    assert (b.label, b.probability, b.runner_up) == ("zero", 0.5, "one")  # of equals the first
    assert c == Prediction("c.png", None, 0.0, None, 0.0)


def test_nothing_to_predict(cache: Store, model: ModelVersion):
    nothing = Batch((), np.zeros((0, 2, 2), np.uint8), np.zeros(0, bool), UNREADABLE)
    assert Model(model, cache).predict_batch(nothing) == []


def test_csv(cache: Store, model: ModelVersion, batch: Batch):
    text = predictions_csv(Model(model, cache).predict_batch(batch), UNREADABLE)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows[0] == {
        "picture": "a.png",
        "class": "two",
        "probability": "0.800000",
        "runner_up": "one",
        "runner_up_probability": "0.200000",
        "note": "",
        "found": "",
        "unsure": "",
    }
    assert (rows[2]["class"], rows[2]["note"]) == ("", "blank")
    assert rows[3]["note"] == "unreadable: the picture is damaged"
    assert "\r" not in text


def test_what_is_unsure_is_said_in_every_row(model: ModelVersion):
    sure = Prediction("a.png", "two", 0.8, "one", 0.2, 1, "")
    unsure = replace(sure, picture="b.png", found=2, doubt="2 side by side")
    blank = Prediction("c.png", None, 0.0, None, 0.0, 0, "")
    rows = list(csv.DictReader(io.StringIO(predictions_csv([sure, unsure, blank], UNREADABLE))))
    assert [(each["found"], each["unsure"], each["note"]) for each in rows[:3]] == [
        ("1", "no", ""),
        ("2", "yes", "2 side by side"),
        ("0", "no", "blank"),
    ]
    document = predictions_json(model, [sure, unsure, blank], UNREADABLE, tells_unsure=True)
    assert [each["unsure"] for each in document["predictions"]] == [False, True, False]
    assert [each["found"] for each in document["predictions"]] == [1, 2, 0]
    assert document["tells_unsure"] is True
    assert count_unsure([sure, unsure, blank]) == 1
    assert count_unsure([sure, Prediction("d.png", "two", 0.8, "one", 0.2)]) is None


def test_a_model_of_an_older_digitflow_predicts_and_cannot_tell(
    cache: Store, model: ModelVersion, batch: Batch
):
    predictions = Model(model, cache).predict_batch(batch)
    assert [each.unsure for each in predictions] == [None, None, None]
    document = predictions_json(model, predictions, UNREADABLE)
    assert document["tells_unsure"] is False
    assert [each["unsure"] for each in document["predictions"]] == [None, None, None]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("@SUM(A1).png", "'@SUM(A1).png"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3.png", "'-2+3.png"),
        ("\t=1", "'\t=1"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("+", "+"),
        ("-1", "-1"),
        ("a=1.png", "a=1.png"),
        ("it's", "it's"),
    ],
)
def test_no_name_in_the_csv_is_a_formula(name: str, cell: str):
    predicted = Prediction(name, name, 0.8, name, 0.2)
    text = predictions_csv([predicted], [(name, "damaged")])
    _, *rows = csv.reader(io.StringIO(text, newline=""))
    assert [rows[0][0], rows[0][1], rows[0][3], rows[1][0]] == [cell] * 4


def test_json(cache: Store, model: ModelVersion, batch: Batch):
    document = predictions_json(model, Model(model, cache).predict_batch(batch), UNREADABLE)
    assert document["model"] == 1
    assert [each["class"] for each in document["predictions"]] == ["two", "zero", None]
    assert [each["blank"] for each in document["predictions"]] == [False, False, True]
    assert document["unreadable"] == [{"file": "bad.png", "problem": "the picture is damaged"}]


class TestModel:
    def test_champion_or_the_one_that_is_named(self, cache: Store, model: ModelVersion):
        other = register(cache, weights={**WEIGHTS, "weights_1": 2 * np.eye(4)}, class_names=NAMES)
        cache.models.promote(other.version, "test")
        assert Model.load(store=cache).version.version == 2
        assert Model.load(1, store=cache).version == model

    def test_no_champion(self, cache: Store, model: ModelVersion):
        with pytest.raises(UnknownNameError, match=r"promote 1; or choose one: --model 1$"):
            Model.load(store=cache)

    def test_no_model_at_all(self, cache: Store):
        with pytest.raises(UnknownNameError, match=r"no champion .* digitflow run, then digitflow"):
            Model.load(store=cache)


class TestImageSize:
    def test_on_record(self, cache: Store):
        model = register(cache, weights=WEIGHTS, class_names=NAMES, image_size=(1, 4))
        assert Model(model, cache).image_size == (1, 4)  # not the square that it could be

    def test_of_an_older_record_a_square_is_taken(self, cache: Store, model: ModelVersion):
        assert model.image_size is None
        assert Model(model, cache).image_size == (2, 2)

    def test_of_an_older_record_that_cannot_be_told(self, cache: Store):
        weights = {"weights_1": np.eye(6), "weights_2": np.eye(6)[:, :3]}
        model = register(cache, weights=weights, class_names=NAMES)
        said = r"found version 1 of an older .* 6 pixels, not a square number\. Repeat the run"
        with pytest.raises(ParameterError, match=said):
            _ = Model(model, cache).image_size

    @pytest.mark.parametrize(
        ("shape", "size"), [((784,), (28, 28)), ((1, 28, 28), (28, 28)), ((1, 5, 9), (5, 9))]
    )
    @pytest.mark.parametrize("members", [1, 2])
    def test_of_an_older_record_of_layers_and_of_an_ensemble(
        self, cache: Store, shape: tuple[int, ...], size: tuple[int, int], members: int
    ):
        from digitflow.tasks.nn.inference.model_file import join_members, to_arrays
        from digitflow.tasks.nn.layers.base import Dense, Flatten
        from digitflow.tasks.nn.network import Network
        from digitflow.tasks.nn.randomness import Randomness

        layers = [Dense(3)] if len(shape) == 1 else [Flatten(), Dense(3)]
        weights = to_arrays(Network(layers, shape, randomness=Randomness.from_seed(0)))
        if members > 1:
            weights = join_members([weights] * members, "cross_entropy")
        model = register(cache, weights=weights, class_names=NAMES)
        assert Model(model, cache).image_size == size


def test_predictions_are_plain_values(cache: Store, model: ModelVersion, batch: Batch):
    """Not NumPy's, which JSON cannot hold."""
    first = replace(Model(model, cache).predict_batch(batch)[0])
    assert type(first.probability) is float
    assert type(first.runner_up_probability) is float
