"""Parameters of any plain type: equal values give one key, different ones different keys."""

import datetime as dt
import enum
import importlib
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitflow.storage.digests import canonical_json
from digitflow.storage.keys import differences
from digitflow.storage.parameters import canonical
from digitflow.storage.store import Store
from digitflow.tasks.engine.stage import stage


class Mode(enum.Enum):
    FAST = 1
    SLOW = 2


class Level(enum.IntEnum):
    FAST = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass(frozen=True)
class Config:
    rate: float
    names: tuple[str, ...] = ()
    hidden: int = field(default=0, compare=False)


@dataclass
class Other:
    rate: float
    names: tuple[str, ...] = ()
    hidden: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Slotted:
    rate: float


@dataclass
class WithCode:
    rate: float

    @property
    def doubled(self) -> float:
        return 2 * self.rate


@dataclass
class Inherited(WithCode):
    more: int = 0


@dataclass
class WithConstant:
    rate: float
    scale = 3


@dataclass
class WithCache:
    rate: float

    @cached_property
    def squared(self) -> float:
        return self.rate**2


class Shouting(enum.Enum):
    A = 1

    def __str__(self) -> str:
        return "A!"


class DictOfOurs(dict[str, int]):
    pass


@stage(outputs={"x": "text"})
def show(*, value: Any, other: int = 0) -> dict[str, Any]:
    return {"x": repr(value)}


def digest(value: Any) -> str:
    return show.key({}, {"value": value}).digest()


UTC, LONDON = dt.UTC, ZoneInfo("Europe/London")
NOON = dt.datetime(2024, 10, 27, 1, 30)

# All of them different, many of them equal to Python, or alike when they are written.
DIFFERENT: list[Any] = [
    *(None, "None", True, "True", False, "", 0, 0.0, -0.0, 0j, "0", b"", b"0"),
    *(1, 1.0, 1 + 0j, "1", "1.0", 2**70, float(2**70), 0.1, 0.1 + 2**-54),
    *(float("nan"), float("inf"), float("-inf"), "nan", "inf"),
    *(np.float32(0.1), np.float64(0.1), np.float16(0.1), np.float32(0.1).item()),
    *(np.int64(1), np.int32(1), np.uint8(1), np.bool(True), np.bool(False)),
    *(np.float64(0.0), np.float64(-0.0), np.float32("nan"), np.float64("nan")),
    *(np.longdouble(1), np.longdouble(1) / 3, np.complex64(1), np.str_("1"), np.bytes_(b"1")),
    *(np.datetime64("2024-01-01"), np.datetime64("2024-01-01", "s"), np.datetime64("NaT")),
    *(np.timedelta64(1, "s"), np.timedelta64(1000, "ms"), np.timedelta64(1)),
    *([], (), {}, set(), frozenset(), [[]], ((),), [()], ([],)),
    *([1], (1,), {1}, frozenset({1}), [1.0], [True], [1, 2], [2, 1], (1, 2), Point(1, 2)),
    *({"a": 1}, {"a": 1.0}, {1: "a"}, {"1": "a"}, {True: "a"}, {None: "a"}, {(1,): "a"}),
    *([["a", 1]], [("a", 1)], {"$type": "tuple", "$value": [1]}, {"$type": "dict", "$value": []}),
    *(dt.date(2024, 10, 27), "2024-10-27", dt.datetime(2024, 10, 27), "2024-10-27T00:00:00"),
    *(NOON, NOON.replace(fold=1), NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=LONDON)),
    NOON.replace(tzinfo=LONDON, fold=1),
    NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
    NOON.replace(tzinfo=ZoneInfo("UTC")),
    *(dt.time(1, 30), dt.time(1, 30, tzinfo=UTC), "01:30:00", dt.timedelta(1), dt.timedelta(0, 1)),
    *(Decimal("1"), Decimal("1.0"), Decimal("NaN"), Decimal("-0"), Fraction(1), Fraction(1, 2)),
    *(Path("a"), "a", PurePosixPath("a"), Path("/a"), UUID(int=1)),
    *(Mode.FAST, Mode.SLOW, Level.FAST, "FAST", Rights.READ, Rights.READ | Rights.WRITE),
    *(Config(1.0), Config(1), Config(1.0, ("a",)), Config(1.0, hidden=1), Other(1.0), Slotted(1.0)),
    *({"rate": 1.0, "names": (), "hidden": 0}, Point(1), Point(1, 0.0)),  # type: ignore[arg-type]
]


def test_different_values_give_different_keys():
    found: dict[str, Any] = {}
    for value in DIFFERENT:
        if isinstance(value, Point) and value == (1, 0) and type(value.y) is int:
            continue
        other = found.setdefault(digest(value), value)
        assert other is value, (other, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (frozenset([1, "1", None]), frozenset([None, "1", 1])),
        (Point(1), Point(1, 0)),
        (Config(0.1, ("a",)), Config(rate=0.1, names=("a",))),
        (Decimal("1.50"), Decimal("1.50")),
        (float("nan"), -float("nan")),
        (Path("a/b"), Path("a") / "b"),
        (ZoneInfo("Europe/London"), ZoneInfo("Europe/London")),
        (
            dt.datetime(2024, 1, 1, tzinfo=UTC),
            dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(0))),
        ),
        (Mode.FAST, Mode(1)),
    ],
)
def test_equal_values_give_one_key(one: Any, other: Any):
    if isinstance(one, ZoneInfo):
        one, other = (NOON.replace(tzinfo=each) for each in (one, other))
    assert digest(one) == digest(other)


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "found a value of the type builtins.object"),
        (int, "builtins.type"),
        (len, "builtin_function"),
        (np.arange(3), "numpy.ndarray, .*; make an input of it"),
        (np.dtype("i4"), "numpy.dtype"),
        (np.zeros(1, [("a", "i4")])[0], "numpy.void"),
        (pd.Timestamp("2024-01-01"), "Timestamp"),
        (pd.DataFrame(), "DataFrame"),
        (OrderedDict(a=1), "OrderedDict"),
        (DictOfOurs(a=1), "DictOfOurs"),
        (bytearray(b"a"), "bytearray"),
        (range(3), "builtins.range"),
        (CIRCULAR, "does not contain itself"),
        ("\ud800", "expected a value that can be written"),
        (Path("\ud800"), "expected a value that can be written"),
        ({"\ud800": 1}, "expected a value that can be written"),
        ([10**5000], "expected a value that can be written"),
        (NOON.replace(tzinfo=type("Zone", (dt.tzinfo,), {})()), "its time zone .* cannot be told"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"deep": [value]}])
def test_other_values_are_refused_by_the_parameters_name(value: Any, says: str, wrap: Any):
    with pytest.raises(TypeError, match=f"(?s)stage show, parameter value.*{says}"):
        show.key({}, {"value": wrap(value)})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            WithCode(1.0),
            "would not notice a change of its doubled; name WithCode in the body of the stage",
        ),
        (Inherited(1.0), "would not notice a change of its doubled"),
        (WithConstant(1.0), "would not notice a change of its scale"),
        (WithCache(1.0), "would not notice a change of its squared"),
        (Shouting.A, "would not notice a change of its __str__"),
    ],
)
def test_code_that_the_key_would_not_notice_is_refused(value: Any, says: str):
    with pytest.raises(TypeError, match=f"^parameter value: .*{says}"):
        canonical(value, "parameter value")
    assert canonical(value, "parameter value", lambda kind: True)


MODULE = """
from dataclasses import dataclass
from typing import Any
from digitflow import stage

@dataclass
class Settings:
    rate: float

    def doubled(self) -> float:
        return 2 * self.rate

@stage(outputs={"x": "json"})
def blind(*, settings: Any):
    return {"x": settings.doubled()}

@stage(outputs={"x": "json"})
def seeing(*, settings: Any):
    return {"x": Settings.doubled(settings)}
"""


def test_what_a_stage_names_may_have_code_since_that_is_part_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "settings_of_a_stage.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("settings_of_a_stage")
    with pytest.raises(TypeError, match="stage blind, parameter settings: .*its doubled"):
        module.blind.key({}, {"settings": module.Settings(1.0)})
    key = module.seeing.key({}, {"settings": module.Settings(1.0)})
    (code,) = key.code.values()
    assert "Settings.doubled" in code


def test_the_stage_is_given_what_was_handed_over(tmp_path: Path):
    store = Store(tmp_path / "store")
    for value in (dt.date(2024, 1, 1), (1, 2), {3, 1}, np.float32(0.1), Mode.SLOW, Config(1.0)):
        first = show.run(store, "show", {}, {"value": value}, run="r")
        again = show.run(store, "show", {}, {"value": value}, run="r")
        assert (first.cached, again.cached) == (False, True)
        assert store.read(first.outputs["x"]) == repr(value)


def test_what_changed_is_said_as_people_write_it(tmp_path: Path):
    store = Store(tmp_path / "store")
    for value in (dt.date(2024, 1, 1), dt.date(2024, 1, 2), "2024-01-02", (1, 2)):
        last = show.run(store, "show", {}, {"value": value}, run="r")
    assert last.reasons == ("parameter value 2024-01-02 → tuple [1, 2]",)
    old, new = (show.key({}, {"value": value}).document() for value in (Mode.FAST, Mode.SLOW))
    assert differences(old, new) == [
        "parameter value Mode {'name': 'FAST', 'value': 1} → Mode {'name': 'SLOW', 'value': 2}"
    ]


def test_plain_json_is_what_it_was():
    document = {"a": [1, 2.5, None, True, "x", {"b": []}]}
    assert canonical(document, "it") == document


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text("$type"), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(PLAIN, PLAIN)
def test_values_that_hypothesis_makes(one: Any, other: Any):
    alike = canonical_json(canonical(one, "")) == canonical_json(canonical(other, ""))
    assert alike == (ordered(one) == ordered(other))


def ordered(value: Any) -> str:
    """A value as Python writes it, whatever the order of its keys."""
    if isinstance(value, dict):
        return f"{{{sorted((key, ordered(each)) for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}{[ordered(each) for each in value]}"
    return repr(value)


def test_numpy_is_not_imported_for_it():
    assert "numpy" not in vars(sys.modules[canonical.__module__])
