"""Which models can be judged on the same test images: told before either is shown one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.storage.history.models import ModelVersion
from digitflow.storage.store import Store
from digitflow.tasks.gate.candidate import check_comparable
from tests.registered import register

NAMES = ("a", "b")


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def model(
    cache: Store, pixels: int, *, class_names: tuple[str, ...] = NAMES, **known: Any
) -> ModelVersion:
    """Return the next version; no two have the same weights."""
    value = float(len(list(cache.models.oldest_first())))
    weights = {"weights_1": np.full((pixels, 2), value), "weights_2": np.eye(2)}
    return register(cache, weights=weights, class_names=class_names, **known)


def test_the_same_classes_and_images(cache: Store) -> None:
    champion, challenger = (model(cache, 63, image_size=(9, 7)) for _ in range(2))
    check_comparable(cache, challenger, champion)


def test_other_classes(cache: Store) -> None:
    champion = model(cache, 63, image_size=(9, 7))
    challenger = model(cache, 63, image_size=(9, 7), class_names=("x", "y"))
    said = r"the classes of the champion, version 1 \(a, b\), found x, y: give .* promote 2$"
    with pytest.raises(ValueError, match=said):
        check_comparable(cache, challenger, champion)


@pytest.mark.parametrize("size", [(5, 40), (7, 9)])  # the second of as many pixels
def test_images_of_another_size(cache: Store, size: tuple[int, int]) -> None:
    champion = model(cache, 63, image_size=(9, 7))
    challenger = model(cache, size[0] * size[1], image_size=size)
    said = (
        rf"expected images of the champion's size, version 1 \(9 x 7 pixels\), found {size[0]} x "
        rf"{size[1]} pixels: give models for another task a name of their own \(parameter "
        r"model\), or make this one the champion by hand: digitflow models promote 2$"
    )
    with pytest.raises(ValueError, match=said):
        check_comparable(cache, challenger, champion)


def test_of_an_older_champion_only_the_number_of_pixels_may_be_known(cache: Store) -> None:
    champion = model(cache, 36)  # no square is taken for granted
    check_comparable(cache, model(cache, 36, image_size=(4, 9)), champion)
    challenger = model(cache, 63, image_size=(9, 7))
    with pytest.raises(ValueError, match=r"\(36 pixels\), found 9 x 7 pixels"):
        check_comparable(cache, challenger, champion)


def test_what_is_on_record_opens_no_weights(cache: Store) -> None:
    champion, challenger = (model(cache, 63, image_size=(9, 7)) for _ in range(2))
    for each in (champion, challenger):
        cache.objects.path(each.weights.sha256).unlink()
    check_comparable(cache, challenger, champion)
