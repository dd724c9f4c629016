"""Successive halving: at which epochs points are compared, and which of them go on.

Source: Jamieson & Talwalkar 2016, arXiv:1502.07943; with the factor of Li et al. 2018,
arXiv:1603.06560. All points of a rung are waited for, unlike in its asynchronous form (ASHA, Li
et al. 2020, arXiv:1810.05934), so that what is found does not depend on which worker was faster.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.sweeps.grid import Point

EarlyStop = Literal["successive-halving"]

# Of three points one goes on.
FACTOR = 3
# The first comparison comes after this share of the epochs. Earlier, a one-cycle schedule has
# hardly begun, and the points that will be best are not yet ahead.
FIRST_SHARE = 1 / 6


def rungs(epochs: int, points: int) -> list[int]:
    """Return after how many epochs points are compared, in order; never after the last.

    Parameters
    ----------
    epochs
        Of a whole training.
    points
        To begin with. Halving ends where few enough are left to train them to their end.
    """
    found = []
    at, left = max(1, round(epochs * FIRST_SHARE)), points
    while at < epochs and left > FACTOR:
        found.append(at)
        at, left = at * FACTOR, survivors(left)
    return found


def survivors(points: int) -> int:
    """Return how many points go on after a rung."""
    return math.ceil(points / FACTOR)


def check_halving(points: Sequence[Point]) -> None:
    """Refuse points that cannot be compared before they are trained to the end.

    Raises
    ------
    ParameterError
        If they have different numbers of epochs.
    """
    if len({point.parameters.epochs for point in points}) > 1:
        message = (
            "grid: epochs: successive halving compares points after the same share of their "
            "epochs; omit epochs from the grid, or omit --early-stop"
        )
        raise ParameterError(message)
