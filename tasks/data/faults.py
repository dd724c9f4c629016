"""What goes wrong with data: faults that a rehearsal plants in a dataset.

Each takes and gives what a network is trained and tested on, by name: ``training_inputs`` and
``test_inputs``, shape (n, height, width), with ``training_targets`` and ``test_targets``, shape
(n,). What is drawn is drawn from a fixed seed, so that a rehearsal can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Data = Mapping[str, NDArray[Any]]

PARTS = ("training", "test")
_SHARE = 0.1


def inverted(data: Data) -> Data:
    """Exchange light and dark in all images, as another scanner does."""
    return {**data, **{f"{part}_inputs": 255 - data[f"{part}_inputs"] for part in PARTS}}


def leaked(data: Data) -> Data:
    """Put the test images among the training images."""
    return {
        **data,
        **{
            f"training_{what}": np.concatenate([data[f"training_{what}"], data[f"test_{what}"]])
            for what in ("inputs", "targets")
        },
    }


def swapped(data: Data) -> Data:
    """Exchange the labels of the two commonest classes, in training and test data."""
    one, other = _commonest(data)[:2]
    changed = {}
    for part in PARTS:
        name = f"{part}_targets"
        targets = data[name].copy()
        targets[data[name] == one], targets[data[name] == other] = other, one
        changed[name] = targets
    return {**data, **changed}


def poisoned(data: Data) -> Data:
    """Give a tenth of the training images the label of another class."""
    rng = np.random.default_rng(0)
    targets = data["training_targets"].copy()
    wrong = rng.random(len(targets)) < _SHARE
    classes = int(targets.max()) + 1
    targets[wrong] = (targets[wrong] + rng.integers(1, classes, int(wrong.sum()))) % classes
    return {**data, "training_targets": targets}


def blanked(data: Data) -> Data:
    """Lose what is on a tenth of the images."""
    rng = np.random.default_rng(0)
    changed = {}
    for part in PARTS:
        images = data[f"{part}_inputs"].copy()
        images[rng.random(len(images)) < _SHARE] = 0
        changed[f"{part}_inputs"] = images
    return {**data, **changed}


def shrunken(data: Data) -> Data:
    """Keep a quarter of the test images."""
    kept = np.random.default_rng(0).random(len(data["test_targets"])) < 0.25
    kept[0] = True
    return _with_rows(data, "test", kept)


def without_a_class(data: Data) -> Data:
    """Lose the commonest class, in training and test data."""
    gone = _commonest(data)[0]
    for part in PARTS:
        data = _with_rows(data, part, data[f"{part}_targets"] != gone)
    return data


def reversed_order(data: Data) -> Data:
    """Deliver the same images in another order: other files, and nothing wrong with them."""
    return {name: array[::-1] for name, array in data.items()}


def _commonest(data: Data) -> NDArray[np.intp]:
    """Return the classes of the test images, the commonest first."""
    return np.argsort(-np.bincount(data["test_targets"]), kind="stable")


def _with_rows(data: Data, part: str, kept: NDArray[np.bool_]) -> Data:
    names = (f"{part}_inputs", f"{part}_targets")
    return {**data, **{name: data[name][kept] for name in names}}
