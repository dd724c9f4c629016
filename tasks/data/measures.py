"""What can be said of a dataset without a network: numbers that change when something went wrong.

Counts, and the means of what each image looks like: how bright it is, how much contrast it has and
where its ink lies. What they may change by is for the gate to say (`tasks.gate.data`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.ink import are_blank

# Shares of images above which a person should look: of test images that are training images, too,
# of images that repeat one before, and of blank ones.
MOST_SHARED, MOST_REPEATED, MOST_BLANK = 0.005, 0.01, 0.01

_BLOCK = 1_000


@dataclass(frozen=True)
class Spread:
    """Mean of a number over all images that are not blank, and its standard deviation there."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Part:
    """A training or a test set.

    Attributes
    ----------
    images
        How many.
    classes
        How many of each class.
    blank
        Images on which nothing is to be seen.
    repeated
        Images that are not blank and that an earlier image of the same bytes comes before.
    brightness, contrast
        Mean and standard deviation of an image's pixels, 0 to 255.
    row, column
        Centre of an image's ink, in pixels from its upper left corner.
    """

    images: int
    classes: tuple[int, ...]
    blank: int
    repeated: int
    brightness: Spread
    contrast: Spread
    row: Spread
    column: Spread


@dataclass(frozen=True)
class Measures:
    """What was measured of a dataset.

    Attributes
    ----------
    training, test
        Its parts.
    shared
        Test images, not blank, that are training images too.
    """

    training: Part
    test: Part
    shared: int


@dataclass(frozen=True)
class Agreement:
    """Images that two datasets have in common, part by part.

    Attributes
    ----------
    training, test
        How many there are.
    relabelled_training, relabelled_test
        How many of them have another label than before.
    """

    training: int
    relabelled_training: int
    test: int
    relabelled_test: int


def measure_data(
    training_images: NDArray[np.uint8],
    training_classes: NDArray[np.integer[Any]],
    test_images: NDArray[np.uint8],
    test_classes: NDArray[np.integer[Any]],
    *,
    classes: int,
) -> Measures:
    """Measure a dataset, in memory for a thousand images and a digest of each.

    Parameters
    ----------
    training_images, test_images : NDArray[uint8], shape (n, height, width)
        May be memory maps.
    training_classes, test_classes : NDArray[int], shape (n,)
        Numbers of classes, from 0.
    classes : int
        How many there are.
    """
    training, known = _measure_part(training_images, training_classes, classes)
    test, shown = _measure_part(test_images, test_classes, classes)
    learnt = {*known}
    return Measures(training, test, sum(each in learnt for each in shown))


def label_agreement(
    then: Sequence[tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]],
    now: Sequence[tuple[NDArray[np.uint8], NDArray[np.integer[Any]]]],
) -> Agreement:
    """Count the images that two datasets have in common, and those that are labelled otherwise.

    What one of them labels in two ways says nothing of a change and is left out.

    Parameters
    ----------
    then, now
        Images and classes, of the training set and of the test set.
    """
    counts: list[int] = []
    for before, after in zip(then, now, strict=True):
        known, given = _labels(*before), _labels(*after)
        common = known.keys() & given.keys()
        counts += [len(common), sum(known[each] != given[each] for each in common)]
    return Agreement(*counts)


def brightness_and_contrast(
    images: NDArray[np.uint8],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the standard deviation of each image's pixels, shape (n,), 0 to 255."""
    return images.mean(axis=(1, 2)), images.std(axis=(1, 2))


def digests(images: NDArray[np.uint8]) -> Iterator[bytes]:
    """Yield a digest of each image's bytes."""
    for image in images:
        yield hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _labels(images: NDArray[np.uint8], classes: NDArray[np.integer[Any]]) -> dict[bytes, int]:
    labels: dict[bytes, int] = {}
    in_two_ways = set()
    for digest, label in zip(digests(images), classes.tolist(), strict=True):
        if labels.setdefault(digest, label) != label:
            in_two_ways.add(digest)
    return {digest: label for digest, label in labels.items() if digest not in in_two_ways}


def _measure_part(
    images: NDArray[np.uint8], targets: NDArray[np.integer[Any]], classes: int
) -> tuple[Part, list[bytes]]:
    """Measure a part; also return a digest of each image that is not blank."""
    seen: list[bytes] = []
    rows: list[NDArray[np.float32]] = []
    height, width = images.shape[1:]
    down, across = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    for start in range(0, len(images), _BLOCK):
        block = np.asarray(images[start : start + _BLOCK])
        block = block[~are_blank(block)]
        seen += digests(block)
        ink = block.astype(np.float32)
        mean = ink.mean(axis=(1, 2))
        squares = np.einsum("nij,nij->n", ink, ink) / (height * width)
        by_row, by_column = ink.sum(axis=2), ink.sum(axis=1)
        total = by_row.sum(axis=1)
        contrast = np.sqrt(np.maximum(squares - mean**2, 0))
        rows.append(
            np.stack([mean, contrast, by_row @ down / total, by_column @ across / total], 1)
        )
    measured = np.concatenate(rows) if rows else np.zeros((0, 4), np.float32)
    spreads = [
        Spread(float(each.mean(dtype=np.float64)), float(each.std(dtype=np.float64)))
        if len(each)
        else Spread(0.0, 0.0)
        for each in measured.T
    ]
    part = Part(
        len(images),
        tuple(np.bincount(targets, minlength=classes).tolist()),
        len(images) - len(seen),
        len(seen) - len({*seen}),
        *spreads,
    )
    return part, seen
