import re
from typing import Any

import pytest
from pydantic import ValidationError

from digitflow.tasks.nn.presets import PRESETS
from digitflow.tasks.nn.settings import TrainingSettings


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_are_valid_and_say_only_what_differs(name: str) -> None:
    settings = TrainingSettings(**PRESETS[name])
    defaults = TrainingSettings()
    for field in PRESETS[name]:
        assert getattr(settings, field) != getattr(defaults, field), field


@pytest.mark.parametrize("name", list(TrainingSettings.model_fields))
def test_every_setting_has_a_description_and_bounds_or_choices(name: str) -> None:
    schema = TrainingSettings.model_json_schema()["properties"][name]
    assert re.fullmatch(r"[A-Z].*\.", schema["description"])
    bounds = {"minimum", "exclusiveMinimum", "maxItems", "enum"}
    schema = schema.get("anyOf", [schema])[0]  # the other one is null
    assert schema["type"] == "boolean" or bounds & schema.keys()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dropout": 1.0}, "less than 1"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rate": float("nan")}, "finite number"),
        ({"hidden_sizes": (0,)}, "greater than or equal to 1"),
        ({"optimizer": "magic"}, "'sgd', 'adam' or 'adamw'"),
        ({"no_such_thing": 1}, "no_such_thing"),
        ({"patience": 3, "validation_size": 0}, "patience needs a validation set"),
        ({"nesterov": True}, "nesterov needs optimizer='sgd'"),
        ({"global_average_pooling": True}, "needs convolution_channels"),
        ({"warm_up_epochs": 10.0}, "smaller than epochs"),
        ({"kernel_size": 4}, "must be odd"),
    ],
)
def test_values_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainingSettings(**values)


@pytest.mark.parametrize(
    ("asked", "images", "classes", "held_back"),
    [
        (None, 60_000, 10, 5_000),
        (None, 50_000, 10, 5_000),
        (None, 2_345, 10, 234),
        (None, 9, 2, 0),
        (None, 10, 10, 0),
        (None, 12, 2, 1),
        (7, 10, 2, 7),
        (0, 60_000, 10, 0),
    ],
)
def test_how_many_images_are_held_back(
    asked: int | None, images: int, classes: int, held_back: int
) -> None:
    settings = TrainingSettings(validation_size=asked)
    assert settings.held_back(images, classes) == held_back
