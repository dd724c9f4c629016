"""What is ink on a picture: paper is grey, light is uneven, sensors are noisy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.strokes import grown, strokes_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Of 255. A pencil on paper differs from it by 60 and more; JPEG and paper by a few.
LEAST_CONTRAST = 20.0
# Standard deviations of the paper's noise: so much stands out from it, and so much is ink.
_OUTSTANDING, _LEAST_SIGNAL = 4.0, 5.0
# More than this share of a picture is no stroke, and less is none either.
_MOST_INK, _LEAST_INK = 0.6, 1e-4
# From so many pixels on, a picture is so much larger than an image that smoothing costs nothing.
_SMOOTHED_FROM = 112
_ROUNDS = 4


def find_ink(picture: Floats) -> Floats | None:
    """Return how much ink there is at each pixel, 0 to 1, cut to what is inked; None if blank."""
    if min(picture.shape) >= _SMOOTHED_FROM:
        picture = _smoothed(picture)
    difference, noise = _from_background(picture)
    outstanding = difference > _least(noise)
    if not outstanding.any():
        return None
    # The edges of strokes stand out, too, but less: three quarters up is full ink. An edge lies
    # where ink is half, however little of the picture it takes.
    level = float(np.percentile(difference[outstanding], 75))
    if level < max(LEAST_CONTRAST, _LEAST_SIGNAL * noise):
        return None
    mask = strokes_of(difference > max(level / 2, _least(noise)))
    if not _LEAST_INK <= mask.mean() <= _MOST_INK:
        return None
    # Half-inked pixels around a stroke belong to it.
    values = np.where(grown(mask), difference, 0)
    # Below what paper's noise reaches is paper; full ink is full.
    lowest = min(3 * noise, level / 2)
    values = np.clip((values - lowest) / (level - lowest), 0, 1)
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    return values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _least(noise: float) -> float:
    """Return by how much a pixel must differ from paper so as to be none."""
    return max(_OUTSTANDING * noise, LEAST_CONTRAST / 2)


def _smoothed(picture: Floats) -> Floats:
    """Average each pixel with its neighbours, weights 1, 2, 1: noise falls to a third."""
    for axis in (0, 1):
        width = [(1, 1) if each == axis else (0, 0) for each in (0, 1)]
        framed = np.pad(picture, width, mode="edge")
        length = picture.shape[axis]
        before, middle, after = (
            np.take(framed, range(start, start + length), axis=axis) for start in (0, 1, 2)
        )
        picture = (before + 2 * middle + after) / 4
    return picture


def _from_background(picture: Floats) -> tuple[Floats, float]:
    """Return by how much each pixel stands out from its background, towards ink, and the noise.

    The border is background. Ink is what lies on the side of it where the picture reaches
    farther. Uneven light makes the background a curved surface: one of second degree is fitted
    to what is not ink, a few times over, as ink becomes known.
    """
    border = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    level = float(np.median(border))
    darkest, lightest = np.percentile(picture, [0.05, 99.95])
    towards_ink = -1.0 if level - darkest > lightest - level else 1.0
    surfaces = _surfaces(picture.shape)
    difference = towards_ink * (picture - level)
    paper = difference <= max(level - darkest, lightest - level) / 2
    noise = 0.0
    for _ in range(_ROUNDS):
        difference = towards_ink * (picture - _fit(surfaces, picture, paper))
        # Of normally distributed noise, the median deviation in standard deviations.
        noise = 1.4826 * float(np.median(np.abs(difference[paper])))
        paper = difference <= _least(noise)
    return difference, noise


def _surfaces(shape: tuple[int, ...]) -> Floats:
    """Return 1, x, y, x², xy, y² over a picture, shape (6, height, width)."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.stack([np.ones(shape), x, y, x * x, x * y, y * y])


def _fit(surfaces: Floats, picture: Floats, where: Mask) -> Floats:
    """Fit the sum of surfaces to a picture where told, least absolute deviations.

    By least squares over and over, each pixel weighing less the farther off it is: the soft
    edges of strokes that `where` leaves in then do not count.
    """
    rows, columns = np.nonzero(where)
    every = max(1, len(rows) // 4000)
    rows, columns = rows[::every], columns[::every]
    known, values = surfaces[:, rows, columns].T, picture[rows, columns]
    weights = np.ones(len(values))
    coefficients: NDArray[Any] = np.zeros(len(surfaces))
    for _ in range(8):
        weighted = known.T * weights
        # In a picture of one row or column x or y is constant: no plain solve has an answer.
        coefficients = np.linalg.lstsq(weighted @ known, weighted @ values, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(values - known @ coefficients), 0.5)
    fitted: Floats = np.tensordot(coefficients, surfaces, axes=1)
    return fitted
