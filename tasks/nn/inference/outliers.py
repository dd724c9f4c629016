"""Does an image look like those that a network was trained on? A score, and its threshold.

A network answers whatever it is shown. Two numbers say that an image is none of its kind, both
measured against the class that is predicted, and added in units of what is usual there:

- the largest output, which is low where no class fits: D. Hendrycks et al., "Scaling
  out-of-distribution detection for real-world settings", ICML 2022, arXiv:1911.11132, section 3
  (the energy of Liu et al. 2020, arXiv:2010.03759, flags about as much, and of an ensemble, whose
  outputs are logarithms of probabilities, it is always 0);
- what is left of the image when the principal components of that class's training images are
  taken out of it, the squared prediction error: J. E. Jackson and G. S. Mudholkar, "Control
  procedures for residuals associated with principal component analysis", Technometrics 21 (1979).

Both are one-sided and none says how probable an image is. The distance to the class means in the
features before the output (Lee et al. 2018, arXiv:1807.03888) was tried as well and adds nothing to
these two; `benchmarks/non_digits.py` measures what they find.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.nn.blas import blas_threads

# Of images like those that it is fitted on so many pass, with so much confidence.
PASSING, _CONFIDENCE = 0.99, 0.95
# Of fewer images no such share can be told.
LEAST_IMAGES = 100
# Of all classes together, and of one.
_COMPONENTS, _PER_CLASS = 400, 40
# Pixels for each component at least: as many components as pixels leave nothing unexplained.
_PIXELS_EACH = 4
# Images of a class that its components are fitted on, at most.
_FITTED_ON = 500
# Longer side, in pixels, of the images that are compared; larger ones are averaged down.
_SIDE = 32
# Images of a class from which on its own scores say what is usual there.
_USUAL = 50
_BLOCK = 1_000


@dataclass(frozen=True)
class Outliers:
    """What is usual of the images of each class, and what is no longer so of any.

    Attributes
    ----------
    means : NDArray[float32], shape (classes, pixels)
        Mean of each class's training images, averaged down.
    components : NDArray[float32], shape (classes, components, pixels)
        Their principal components; zeros where a class has fewer images.
    middle, spread : NDArray[float64], shape (classes, 2)
        Of either number: median, and distance from there to the 95th percentile.
    threshold : float
        Score above which an image is unlike the training images.
    """

    means: NDArray[np.float32]
    components: NDArray[np.float32]
    middle: NDArray[np.float64]
    spread: NDArray[np.float64]
    threshold: float

    def scores(self, images: NDArray[np.uint8], outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return how unlike the training images each image is: 0 is usual, more is less so.

        Parameters
        ----------
        images : NDArray[uint8], shape (n, height, width)
        outputs : NDArray, shape (n, classes)
            The network's outputs for them.
        """
        predicted = np.asarray(outputs).argmax(axis=1)
        numbers = _numbers(self.means, self.components, images, outputs, predicted)
        scores: NDArray[np.float64] = (
            (numbers - self.middle[predicted]) / self.spread[predicted]
        ).sum(axis=1)
        return scores

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return it as arrays by name, for `from_arrays`."""
        return {name: np.asarray(value) for name, value in asdict(self).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Outliers:
        """Return what `to_arrays` described.

        Raises
        ------
        ValueError
            If an array is missing.
        """
        missing = [name for name in Outliers.__dataclass_fields__ if name not in arrays]
        if missing:
            message = (
                f"expected thresholds with {', '.join(missing)}, found {', '.join(sorted(arrays))}"
            )
            raise ValueError(message)
        return Outliers(
            arrays["means"],
            arrays["components"],
            arrays["middle"],
            arrays["spread"],
            float(arrays["threshold"]),
        )


def fit_outliers(
    images: NDArray[np.uint8],
    classes: NDArray[np.integer[Any]],
    learnt: NDArray[np.intp],
    held_out: NDArray[np.uint8],
    outputs: NDArray[Any],
) -> Outliers:
    """Fit what is usual, and the threshold that 99 % of such images stay below.

    Parameters
    ----------
    images : NDArray[uint8], shape (n, height, width)
        Training images; may be a memory map.
    classes : NDArray[int], shape (n,)
        Their classes.
    learnt : NDArray[int]
        Rows of those that the network learnt from.
    held_out : NDArray[uint8], shape (m, height, width)
        Images of the same kind that it did not learn from, at least `LEAST_IMAGES`.
    outputs : NDArray, shape (m, classes)
        The network's outputs for these.

    Raises
    ------
    ValueError
        If fewer images are held out.
    """
    if len(held_out) < LEAST_IMAGES:
        message = (
            f"expected at least {LEAST_IMAGES} images that the network did not learn from, found "
            f"{len(held_out)}"
        )
        raise ValueError(message)
    means, components = _principal(images, classes, learnt, outputs.shape[1])
    predicted = outputs.argmax(axis=1)
    numbers = _numbers(means, components, held_out, outputs, predicted)
    of_all = _usual(numbers)
    usual = [
        _usual(of_class) if len(of_class := numbers[predicted == each]) >= _USUAL else of_all
        for each in range(outputs.shape[1])
    ]
    middle, spread = (np.stack(each) for each in zip(*usual, strict=True))
    scores = np.sort(((numbers - middle[predicted]) / spread[predicted]).sum(axis=1))
    threshold = float(scores[len(scores) - 1 - exceeding(len(scores))])
    return Outliers(means, components, middle, spread, threshold)


def exceeding(images: int) -> int:
    """Return how many of the images that a threshold is fitted on may lie above it.

    So many that at least 99 % of all such images pass with a confidence of 95 %: with a share of
    1 % above it, so few would be found in fewer than 5 % of samples. None of fewer than 299.
    Source: S. S. Wilks, "Determination of sample sizes for setting tolerance limits", Annals of
    Mathematical Statistics 12 (1941).
    """
    share, found, chance = 1 - PASSING, 0, 0.0
    while True:
        logarithm = (
            math.lgamma(images + 1)
            - math.lgamma(found + 1)
            - math.lgamma(images - found + 1)
            + found * math.log(share)
            + (images - found) * math.log(1 - share)
        )
        chance += math.exp(logarithm)
        if chance > 1 - _CONFIDENCE:
            return max(0, found - 1)
        found += 1


def _usual(numbers: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    middle, high = np.quantile(numbers, (0.5, 0.95), axis=0)
    return middle, np.maximum(high - middle, 1e-9)


@blas_threads()
def _numbers(
    means: NDArray[np.float32],
    components: NDArray[np.float32],
    images: NDArray[np.uint8],
    outputs: NDArray[Any],
    predicted: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return of each image its largest output, negated, and what its class does not explain."""
    numbers = np.zeros((len(images), 2))
    numbers[:, 0] = -np.asarray(outputs, np.float64).max(axis=1, initial=-np.inf)
    for each in np.unique(predicted):
        rows = np.flatnonzero(predicted == each)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            rest = _averaged(images[block]) - means[each]
            explained = rest @ components[each].T
            numbers[block, 1] = (rest**2).sum(axis=1) - (explained**2).sum(axis=1)
    return numbers


@blas_threads()
def _principal(
    images: NDArray[np.uint8],
    classes: NDArray[np.integer[Any]],
    learnt: NDArray[np.intp],
    count: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean and the principal components of each class's images."""
    most = max(1, min(_PER_CLASS, _COMPONENTS // count))
    of_learnt = np.asarray(classes)[learnt]
    means, components = [], []
    for each in range(count):
        rows = learnt[of_learnt == each]
        taken = rows[:: -(-len(rows) // _FITTED_ON)] if len(rows) else np.arange(0)
        pixels = _averaged(images[taken])
        mean = pixels.mean(axis=0) if len(taken) else np.zeros(pixels.shape[1], np.float32)
        centred = (pixels - mean).astype(np.float64)
        found = min(most, max(0, len(taken) - 1), pixels.shape[1] // _PIXELS_EACH)
        basis = np.zeros((most, pixels.shape[1]))
        # Of the smaller of both products: as many eigenvectors, and the same.
        if found and len(taken) < pixels.shape[1]:
            lengths, vectors = np.linalg.eigh(centred @ centred.T)
            kept = lengths[-found:] > 1e-9 * lengths[-1]
            scaled = vectors[:, -found:][:, kept] / np.sqrt(lengths[-found:][kept])
            basis[: scaled.shape[1]] = scaled.T @ centred
        elif found:
            basis[:found] = np.linalg.eigh(centred.T @ centred)[1][:, -found:].T
        means.append(mean)
        components.append(basis)
    return np.stack(means).astype(np.float32), np.stack(components).astype(np.float32)


def _averaged(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pixels of each image, 0 to 1, averaged down to at most `_SIDE` along a side."""
    count, height, width = images.shape
    factor = -(-max(height, width) // _SIDE)
    grey = np.asarray(images, np.float32) / 255
    if factor > 1:
        margins = (-height % factor, -width % factor)
        grey = np.pad(grey, ((0, 0), (0, margins[0]), (0, margins[1])), mode="edge")
        rows, columns = grey.shape[1] // factor, grey.shape[2] // factor
        grey = grey.reshape(count, rows, factor, columns, factor).mean((2, 4), np.float32)
    return np.asarray(grey.reshape(count, grey.shape[1] * grey.shape[2]), np.float32)
