"""What a model version knows of its own limits: fitted after training, and asked at predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.inference.outliers import LEAST_IMAGES, Outliers, fit_outliers
from digitflow.tasks.nn.inference.predict import predict
from digitflow.tasks.nn.inference.temperature import at_temperature, fit_temperature
from digitflow.tasks.nn.randomness import Randomness
from digitflow.tasks.nn.settings import TrainingSettings
from digitflow.tasks.nn.training.train import split

Arrays = dict[str, NDArray[Any]]
Rows = NDArray[np.intp]

# Images that are fitted on, at most: as many as a validation set has.
_MOST_IMAGES = 5_000
# So many of a dataset's images may show several things before that is usual.
_SEVERAL = 0.005


@dataclass(frozen=True)
class Calibration:
    """What is asked of a model beside its outputs.

    Attributes
    ----------
    temperature
        That its outputs are divided by.
    outliers
        When an image is unlike the training images.
    one_thing
        Whether an image of its kind shows one thing only, so that several are none.
    """

    temperature: float
    outliers: Outliers
    one_thing: bool

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Calibration | None:
        """Return what `fit_calibration` found; None if it had too few images.

        Raises
        ------
        ValueError
            If an array is missing.
        """
        if not arrays["images"]:
            return None
        return Calibration(
            float(arrays["temperature"]),
            Outliers.from_arrays(arrays),
            bool(arrays["one_thing"]),
        )

    def probabilities(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return the probability of each class, shape (n, classes), for a network's outputs."""
        return at_temperature(outputs, self.temperature)

    def unsure(
        self, images: NDArray[np.uint8], outputs: NDArray[Any], found: NDArray[np.intp] | None
    ) -> list[str]:
        """Say of each image why the model does not know what it shows; nothing where it does.

        Parameters
        ----------
        images, outputs
            Shapes (n, height, width) and (n, classes).
        found
            How many things each image shows; None if that cannot be told.
        """
        unlike = self.outliers.scores(images, outputs) > self.outliers.threshold
        counts = np.ones(len(images), int) if found is None or not self.one_thing else found
        return [
            f"{count} side by side" if count > 1 else "unlike the training images" if each else ""
            for count, each in zip(counts, unlike, strict=True)
        ]

    def told(
        self, images: NDArray[np.uint8], outputs: NDArray[Any], found: NDArray[np.intp] | None
    ) -> Arrays:
        """Return of each image how probable the answer is, and whether the model is unsure.

        Parameters
        ----------
        images, outputs, found
            As `unsure` takes them.

        Returns
        -------
        dict
            ``confidence``, float64 from 0 to 1, and ``unsure``, bool, each of shape (n,).
        """
        doubts = self.unsure(images, outputs, found)
        return {
            "confidence": self.probabilities(outputs).max(axis=1),
            "unsure": np.array([bool(each) for each in doubts], bool),
        }


def unlearnt(
    classes: NDArray[np.integer[Any]],
    sample: int,
    settings: Sequence[TrainingSettings],
) -> tuple[Rows, Rows]:
    """Return which training images a model learnt from, and which no member of it did.

    Parameters
    ----------
    classes
        Of all training images, shape (n,).
    sample
        How many of them were trained on, from the first on; 0 for all.
    settings
        Of each member's training: its seed, and how many images it holds back.

    Returns
    -------
    learnt, unlearnt
        Rows, ascending; at most 5,000 of the second, evenly taken.
    """
    given = sample or len(classes)
    if given < len(classes):
        rest = np.arange(given, len(classes))
    else:
        held_back = [split(classes, each, Randomness.from_seed(each.seed))[1] for each in settings]
        rest = reduce(np.intersect1d, held_back)
    learnt = np.setdiff1d(np.arange(given), rest)
    return learnt, rest[:: max(1, -(-len(rest) // _MOST_IMAGES))]


def fit_calibration(
    weights: Mapping[str, NDArray[Any]],
    images: NDArray[np.uint8],
    classes: NDArray[np.integer[Any]],
    learnt: Rows,
    held_out: Rows,
    found: NDArray[np.intp] | None,
) -> Arrays:
    """Fit all that `Calibration` holds, as arrays by name.

    Parameters
    ----------
    weights
        Content of the model's file.
    images, classes
        All training images, shape (n, height, width), and their classes, shape (n,).
    learnt, held_out
        Rows of those that it learnt from, and of others.
    found
        How many things each of the held-out images shows, or the first of them; None if that
        cannot be told.
    """
    if len(held_out) < LEAST_IMAGES:
        return {"images": np.asarray(0)}
    shown = np.asarray(images[held_out])
    outputs = predict(weights, shown)
    one_thing = found is not None and float((found > 1).mean()) <= _SEVERAL
    outliers = fit_outliers(images, classes, learnt, shown, outputs)
    return {
        "images": np.asarray(len(held_out)),
        "temperature": np.asarray(fit_temperature(outputs, classes[held_out])),
        "one_thing": np.asarray(one_thing),
        **outliers.to_arrays(),
    }
