"""Rows of a grid → points, each checked before any work."""

from typing import Any

import pytest

from digitflow.tasks.parameters import ParameterError
from digitflow.tasks.sweeps.grid import MOST_POINTS, Point, plan_points, shown


def points(*rows: str, overrides: dict[str, Any] | None = None, **draw: Any) -> list[Point]:
    return plan_points("quick", overrides or {}, rows, **draw)


def labels(*rows: str, **draw: Any) -> list[str]:
    return [point.label for point in points(*rows, **draw)]


class TestGrid:
    def test_every_combination_in_order(self):
        assert labels("learning_rate=0.05,0.1", "hidden=128,512") == [
            "learning_rate=0.05 hidden_sizes=128",
            "learning_rate=0.05 hidden_sizes=512",
            "learning_rate=0.1 hidden_sizes=128",
            "learning_rate=0.1 hidden_sizes=512",
        ]

    def test_layers_are_joined_by_a_dash_or_an_x(self):
        found = points("hidden_sizes=512-256,512x128x64,128,none")
        assert [point.parameters.hidden_sizes for point in found] == [
            (512, 256),
            (512, 128, 64),
            (128,),
            (),
        ]
        assert [shown(point.values["hidden_sizes"]) for point in found] == [
            "512-256",
            "512-128-64",
            "128",
            "none",
        ]

    def test_values_have_their_types(self):
        (point,) = points(
            "learning_rate=1e-3", "bias=no", "optimizer=adamw", "epochs=3", "shift= 1 "
        )
        assert dict(point.values) == {
            "learning_rate": 0.001,
            "bias": False,
            "optimizer": "adamw",
            "epochs": 3,
            "shift": 1,
        }
        assert point.label == "learning_rate=0.001 bias=false optimizer=adamw epochs=3 shift=1"

    def test_what_is_set_is_the_same_for_every_point(self):
        found = points("seed=1,2", overrides={"epochs": 4})
        assert [(p.parameters.epochs, p.parameters.seed) for p in found] == [(4, 1), (4, 2)]


class TestRandom:
    ROWS = ("learning_rate=0.001,0.002,0.003", "hidden_sizes=64,128,256", "seed=1,2,3")

    def test_takes_points_of_the_grid_each_once(self):
        drawn = labels(*self.ROWS, random=20)
        assert len(set(drawn)) == 20
        assert set(drawn) < set(labels(*self.ROWS))
        assert sorted(labels(*self.ROWS, random=27)) == sorted(labels(*self.ROWS))

    def test_the_seed_decides(self):
        assert labels(*self.ROWS, random=5) == labels(*self.ROWS, random=5)
        assert labels(*self.ROWS, random=5) != labels(*self.ROWS, random=5, seed=1)

    def test_ranges_are_drawn_evenly_in_the_logarithm(self):
        found = points("learning_rate=0.0001..0.1", "hidden_sizes=16..512", random=300)
        rates = [point.parameters.learning_rate for point in found]
        assert all(0.0001 <= rate <= 0.1 for rate in rates)
        assert 60 < sum(rate < 0.001 for rate in rates) < 140
        assert all(16 <= point.parameters.hidden_sizes[0] <= 512 for point in found)

    def test_a_range_from_nothing_is_drawn_evenly(self):
        found = points("dropout=0..0.5", "batch_size=32,64", random=200)
        assert 60 < sum(point.parameters.dropout < 0.25 for point in found) < 140
        assert {point.parameters.batch_size for point in found} == {32, 64}


@pytest.mark.parametrize(
    ("rows", "draw", "says"),
    [
        ([], {}, "expected at least one row, such as --grid learning_rate=0.05,0.1"),
        (["learning_rate"], {}, "expected name=value,value such as .* found 'learning_rate'"),
        (["learning_rate=0.1,"], {}, "expected name=value,value"),
        (["=1"], {}, "expected name=value,value"),
        (["learning_rat=0.1"], {}, "no such parameter; did you mean 'learning_rate'"),
        (["learning_rate=0.1,fast"], {}, "learning_rate: should be .*number.*'fast'"),
        (["learning_rate=0.1,-1"], {}, "learning_rate: should be greater than 0"),
        (["hidden_sizes=128,a-b"], {}, "hidden_sizes: should be"),
        (["learning_rate=0.1,0.10"], {}, "grid: learning_rate=0.1 appears twice"),
        (["seed=1", "seed=2"], {}, "seed is given twice; put its values in one row"),
        (["epochs=1,2"], {"overrides": {"epochs": 3}}, "epochs is set to one value as well"),
        (["dpi=50,60"], {}, "dpi: points that differ in it cannot be compared"),
        (["validation_size=100,200"], {}, "cannot be compared"),
        (["seed=1"], {"overrides": {"validation_size": 0}}, "set validation_size above 0"),
        (["seed=1"], {"overrides": {"members": 2}}, "a sweep compares single networks"),
        (["learning_rate=0.1..1"], {}, "a range needs --random"),
        (["learning_rate=1..0.1"], {"random": 2}, "expected low..high with 0 ≤ low < high"),
        (["learning_rate=a..b"], {"random": 2}, "expected low..high"),
        (["optimizer=0..1"], {"random": 2}, "expected a list of values, found a range"),
        (["seed=1,2"], {"random": 3}, "the grid has 2 points, found 3; omit --random"),
        (["seed=1..2"], {"random": 3}, "expected 3 different points, found 2 in such narrow"),
        (["seed=1,2"], {"random": 0}, "expected at least 1 point, found 0"),
        (
            [f"{name}={','.join(map(str, range(2, 82)))}" for name in ("seed", "epochs")],
            {},
            f"expected at most {MOST_POINTS:,} points, found 6,400",
        ),
    ],
)
def test_what_is_refused(rows: list[str], draw: dict[str, Any], says: str):
    with pytest.raises(ParameterError, match=says):
        points(*rows, **draw)


def test_the_tutorial_has_nothing_to_choose_by():
    with pytest.raises(ParameterError, match="ranking them on the test set would bias it"):
        plan_points("tutorial", {}, ["learning_rate=0.005,0.01"])


def test_every_problem_is_named_at_once():
    with pytest.raises(ParameterError) as raised:
        points("learning_rate=-1,0.1", "dropout=0.5,2")
    assert "learning_rate: should be" in str(raised.value)
    assert "dropout: should be" in str(raised.value)
