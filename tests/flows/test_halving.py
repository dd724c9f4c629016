"""At which epochs points are compared, and how many go on."""

import pytest

from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.sweeps.grid import plan_points
from digitflow.tasks.sweeps.halving import check_halving, rungs, survivors


def epochs_trained(epochs: int, points: int) -> int:
    total, before = 0, 0
    for until in rungs(epochs, points):
        total += points * (until - before)
        points, before = survivors(points), until
    return total + points * (epochs - before)


@pytest.mark.parametrize("epochs", [6, 10, 12, 18, 30, 35, 100])
def test_a_grid_of_27_takes_at_most_40_percent_of_its_epochs(epochs: int):
    assert epochs_trained(epochs, 27) <= 0.4 * 27 * epochs


def test_the_rungs():
    assert rungs(30, 27) == [5, 15]
    assert rungs(30, 9) == [5]
    assert rungs(1, 27) == []  # there is no earlier epoch to compare after
    assert rungs(30, 3) == []  # few enough to train them all
    assert all(0 < rung < epochs for epochs in range(1, 60) for rung in rungs(epochs, 81))


@pytest.mark.parametrize(("points", "left"), [(27, 9), (9, 3), (3, 1), (10, 4), (1, 1)])
def test_survivors(points: int, left: int):
    assert survivors(points) == left


def test_epochs_cannot_be_swept_with_it():
    check_halving(plan_points("quick", {}, ["seed=1,2"]))
    with pytest.raises(ParameterError, match="omit epochs from the grid, or omit --early-stop"):
        check_halving(plan_points("quick", {}, ["epochs=3,4"]))
