"""What is ink on a picture: paper is grey, light is uneven, sensors are noisy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.data.pictures.strokes import grown, strokes_of

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Of 255. A pencil on paper differs from it by 60 and more; JPEG and paper by a few.
LEAST_CONTRAST = 20.0
# Ink stands out from the noise of the paper by so many standard deviations.
_LEAST_SIGNAL = 5.0
# More than this share of a picture is no stroke: the picture is of something else.
_MOST_INK = 0.6
_ROUNDS = 4


def find_ink(picture: Floats) -> Floats | None:
    """Return how much ink there is at each pixel, 0 to 1, cut to what is inked; None if blank."""
    difference, noise = _from_background(picture)
    strong = _threshold(difference)
    mask = difference > strong
    if not mask.any():
        return None
    level = float(np.median(difference[mask]))
    if level < max(LEAST_CONTRAST, _LEAST_SIGNAL * noise) or mask.mean() > _MOST_INK:
        return None
    mask = strokes_of(mask)
    if not mask.any():
        return None
    # Half-inked pixels around a stroke belong to it.
    values = np.where(grown(mask), difference, 0)
    # Below what paper's noise reaches is paper; full ink is full.
    lowest = min(3 * noise, strong)
    values = np.clip((values - lowest) / (level - lowest), 0, 1)
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    return values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


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
    for _ in range(_ROUNDS):
        paper = difference <= _threshold(difference)
        background = _fit(surfaces, picture, paper)
        difference = towards_ink * (picture - background)
    paper = difference <= _threshold(difference)
    noise = 1.4826 * float(np.median(np.abs(difference[paper])))
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


def _threshold(values: Floats) -> float:
    """Return the value that splits a picture best in two.

    Source: N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions
    on Systems, Man, and Cybernetics 9 (1979).
    """
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()[:-1]
    above = below[-1] + counts[-1] - below
    sums = (counts * middles).cumsum()
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    between = np.nan_to_num(below * above * distance**2)
    # Where nothing lies between two values every split is as good; the middle one is taken.
    best = np.flatnonzero(between == between.max())
    return float(edges[1 + best[len(best) // 2]])
