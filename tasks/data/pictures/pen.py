"""Strokes as broad as those that networks of MNIST have seen."""

import numpy as np
from numpy.typing import NDArray

from digitflow.tasks.data.pictures.strokes import grown

Floats = NDArray[np.float64]

# Of the longer side of a digit. By the measure below 9 in 10 of MNIST's test images lie between
# 0.06 and 0.15; a ballpoint's stroke on a digit of some centimetres is 0.02.
LEAST_BREADTH = 0.08

# Smaller digits have too few pixels to measure a stroke by.
_LEAST_SIDE = 60


def broaden(ink: Floats) -> Floats:
    """Make thin strokes broader; leave others, and small pictures, as they are.

    Scaled to 20 pixels, a ballpoint's stroke would be half a pixel of grey.

    Parameters
    ----------
    ink : NDArray[float64], shape (height, width)
        How much ink there is at each pixel, 0 to 1.
    """
    side = max(ink.shape)
    missing = round((LEAST_BREADTH * side - stroke_breadth(ink)) / 2)
    if side < _LEAST_SIDE or missing < 1:
        return ink
    broader = np.pad(ink, missing)
    for step in range(missing):
        framed = np.pad(broader, 1)
        neighbours = [framed[1:-1, :-2], framed[1:-1, 2:], framed[:-2, 1:-1], framed[2:, 1:-1]]
        if step % 2:  # by turns a cross and a square: nearly a disc
            neighbours += [framed[:-2, :-2], framed[:-2, 2:], framed[2:, :-2], framed[2:, 2:]]
        broader = np.maximum.reduce([broader, *neighbours])
    return broader


def stroke_breadth(ink: Floats) -> float:
    """Return how broad strokes are on average, in pixels: their area over half their outline."""
    mask = np.pad(ink > 0.5, 1)
    outline = mask & grown(~mask)
    return 2 * float(mask.sum()) / max(1.0, float(outline.sum()))
