"""Tables come back as they went in, or are refused by the name of the column that would not."""

from collections.abc import Callable
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from digitflow.storage.digests import digest_file
from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats.artifacts import read_artifact, write_artifact
from digitflow.storage.formats.tables import outline_table

TIMES = pd.to_datetime(["2024-03-31 00:30", "2024-10-27 01:30", None])
LONDON = ZoneInfo("Europe/London")

COLUMNS: dict[str, Any] = {
    "int8": np.array([1, -2, 3], np.int8),
    "uint64": np.array([0, 1, 2**64 - 1], np.uint64),
    "big endian": np.array([1, 2, 3], ">i4"),
    "float16": np.array([0.1, np.nan, -0.0], np.float16),
    "float64": np.array([0.1 + 0.2, np.inf, np.nan]),
    "complex": np.array([1j, np.nan, 2]),
    "bool": np.array([True, False, True]),
    "text": ["01234", "True", ""],
    "text, some missing": ["a\rb\n", None, "\ud800 half a pair"],
    "text of the older kind": pd.array(["a", None, "NA"], dtype="string"),
    "Int64": pd.array([1, None, 2**63 - 1], dtype="Int64"),
    "UInt8": pd.array([1, None, 255], dtype="UInt8"),
    "Float32": pd.array([0.1, None, -0.0], dtype="Float32"),
    "NaN and missing": pd.arrays.FloatingArray(
        np.array([np.nan, 1, 1]), np.array([False, True, False])
    ),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "datetime64[s]": TIMES.as_unit("s"),
    "datetime64[ns]": TIMES.as_unit("ns"),
    "London": TIMES.tz_localize("UTC").tz_convert(LONDON),
    "UTC": TIMES.tz_localize("UTC"),
    "an offset": TIMES.tz_localize(timezone(timedelta(hours=-3, minutes=-30))),
    "timedelta": pd.to_timedelta([1, None, 3], unit="ms"),
    "months": pd.PeriodIndex(["2024-01", None, "1066-10"], freq="M"),
    "categories": pd.Categorical(["b", None, "a"], ["b", "unused", "a"]),
    "ordered": pd.Categorical([3, 1, 3], [3, 2, 1], ordered=True),
    "bins": pd.cut([1.0, 2, np.nan], 2),
    "intervals": pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3], closed="left"),
    "categories of times": pd.Categorical(TIMES.tz_localize("UTC").tz_convert(LONDON)),
}


@pytest.fixture
def round_trip(tmp_path: Path) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def written_and_read(table: pd.DataFrame) -> pd.DataFrame:
        write_artifact("table", tmp_path / "file", table)
        back: pd.DataFrame = read_artifact("table", tmp_path / "file")
        pd.testing.assert_frame_equal(
            back,
            table,
            check_exact=True,
            check_column_type="equiv",
            check_index_type="equiv",
            check_freq=True,
        )
        assert back.dtypes.tolist() == table.dtypes.tolist()
        return back

    return written_and_read


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_keeps_its_dtype_and_its_gaps(
    round_trip: Callable[[pd.DataFrame], pd.DataFrame], name: str
):
    table = pd.DataFrame({name: COLUMNS[name]})
    back = round_trip(table)[name]
    assert [each is pd.NA for each in back] == [each is pd.NA for each in table[name]]
    if isinstance(back.dtype, np.dtype):
        assert back.to_numpy().tobytes() == table[name].to_numpy().tobytes()
    empty = round_trip(table.iloc[:0])
    assert len(empty) == 0


@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_compared_after_writing_is_the_table_but_for_plain_numbers(
    tmp_path: Path, name: str
):
    table = pd.DataFrame({name: COLUMNS[name], "more": [1, 2, 3]}, index=pd.Index([3, 1, 2]))
    write_artifact("table", tmp_path / "file", table)
    outline = outline_table(tmp_path / "file")
    assert outline.dtypes.tolist() == table.dtypes.tolist()
    pd.testing.assert_index_equal(outline.index, table.index)
    assert outline["more"].tolist() == [0, 0, 0]
    if not isinstance(table[name].dtype, np.dtype):
        pd.testing.assert_series_equal(outline[name], table[name])


def test_zones_are_those_that_they_were(round_trip: Callable[[pd.DataFrame], pd.DataFrame]):
    names = ["London", "UTC", "an offset"]
    back = round_trip(pd.DataFrame({name: COLUMNS[name] for name in names}))
    for name in names:
        zone = COLUMNS[name].tz
        assert (type(back[name].dt.tz), repr(back[name].dt.tz)) == (type(zone), repr(zone))


def test_categories_keep_their_order_and_those_without_rows(
    round_trip: Callable[[pd.DataFrame], pd.DataFrame],
):
    back = round_trip(pd.DataFrame({"x": COLUMNS["categories"], "y": COLUMNS["ordered"]}))
    assert back["x"].cat.categories.tolist() == ["b", "unused", "a"]
    assert back["y"].cat.categories.tolist() == [3, 2, 1]
    assert (back["x"].cat.ordered, back["y"].cat.ordered) == (False, True)


INDEXES: dict[str, Any] = {
    "a range": pd.RangeIndex(5, 11, 2, name="odd"),
    "numbers": pd.Index([7, 7, -1], name="twice"),
    "texts": pd.Index(["b", "a", "b"]),
    "days": pd.date_range("2024-01-01", periods=3, freq="D", tz=LONDON, name="day"),
    "irregular times": TIMES,
    "steps": pd.timedelta_range("1h", periods=3, freq="h"),
    "months": pd.period_range("2024", periods=3, freq="M"),
    "categories": pd.CategoricalIndex(["b", "a", "b"], ["c", "b", "a"]),
    "intervals": pd.interval_range(0, 3),
    "levels": pd.MultiIndex.from_tuples([("b", 1), ("a", 2), ("b", None)], names=["x", None]),
    "levels, some unused": pd.MultiIndex.from_product([list("abc"), [1, 2]])[2:5],
}


@pytest.mark.parametrize("name", INDEXES)
def test_the_index_and_the_column_names_come_back(
    round_trip: Callable[[pd.DataFrame], pd.DataFrame], name: str
):
    index = INDEXES[name]
    table = pd.DataFrame(np.arange(9).reshape(3, 3), index=index, columns=index)
    back = round_trip(table)
    for found in (back.index, back.columns):
        assert type(found) is type(index)
        assert found.identical(index)
        assert getattr(found, "freq", None) == getattr(index, "freq", None)
        if isinstance(index, pd.MultiIndex):
            assert [each.tolist() for each in found.levels] == [
                each.tolist() for each in index.levels
            ]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(),
        pd.DataFrame(index=["a", "b"]),
        pd.DataFrame(columns=["a", "b"]),
        pd.DataFrame({"a": [], "b": []}),
        pd.DataFrame([[1, 2.5]], columns=["same", "same"]),
        pd.DataFrame([[1, 2, 3]], columns=["", " a\n", "schema"]),
        pd.DataFrame([[1, 2]], columns=[0, 1]),
        pd.DataFrame([[1, 2]], columns=[2.5, np.nan]),
        pd.DataFrame(np.asfortranarray(np.eye(3))),
    ],
)
def test_odd_and_empty_tables_come_back(
    round_trip: Callable[[pd.DataFrame], pd.DataFrame], table: pd.DataFrame
):
    round_trip(table)


def test_what_people_attach_comes_back(round_trip: Callable[[pd.DataFrame], pd.DataFrame]):
    table = pd.DataFrame({"a": [1]})
    table.attrs["source"] = ["survey", 2024]
    assert round_trip(table).attrs == {"source": ["survey", 2024]}


def test_equal_tables_give_equal_bytes(tmp_path: Path):
    dirty = pd.arrays.IntegerArray(np.array([1, 99]), np.array([False, True]))
    for name, column in (("a", dirty), ("b", pd.array([1, None], dtype="Int64"))):
        write_artifact("table", tmp_path / name, pd.DataFrame({"x": column, "y": ["ä", None]}))
    assert digest_file(tmp_path / "a") == digest_file(tmp_path / "b")


def test_a_table_is_an_archive_that_numpy_opens(tmp_path: Path):
    file = tmp_path / "table.npz"
    details = write_artifact("table", file, pd.DataFrame({"a": [1, 2], "b": [0.5, np.nan]}))
    assert details == {"columns": ["a", "b"], "rows": 2}
    with np.load(file) as arrays:  # without pickle
        assert set(arrays) == {"schema", "0", "1"}


class Subclass(pd.DataFrame):
    pass


XYZ = timezone(timedelta(hours=1), "XYZ")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pd.DataFrame({"a": [{}, 1]}), r"the column 'a': .* Python objects \(dict, int\)"),
        (pd.DataFrame({"a": ["x"], "b": [b"x"]}), r"the column 'b': .* objects \(bytes\)"),
        (pd.DataFrame({"a": [Path("x")]}), r"the column 'a': .* objects \(PosixPath\)"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "the column 'a': .*dtype Sparse"),
        (pd.DataFrame({("a", 1): [object()]}), r"the column \('a', 1\): .* objects \(object\)"),
        (pd.DataFrame([[1, 2]], columns=["a", 1]), r"names \['a', 1\]: .* objects \(int, str\)"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([1], name=2.5)), "the index: .*found 2.5"),
        (pd.DataFrame({"a": [1]}, index=[object()]), r"the index: .* objects \(object\)"),
        (pd.DataFrame({"a": TIMES.tz_localize(XYZ)}), "the column 'a': the dtype .*XYZ.* would"),
        (Subclass({"a": [1]}), "test_tables.Subclass would come back as a pandas"),
        (pd.Series([1]), "expected a value of the format table, found Series"),
        ({"a": [1]}, "expected a value of the format table, found dict"),
        (None, "expected a value of the format table, found NoneType"),
    ],
)
def test_what_a_table_cannot_keep_is_refused_by_its_name(tmp_path: Path, table: Any, says: str):
    with pytest.raises(ArtifactError, match=says):
        write_artifact("table", tmp_path / "file", table)


@pytest.mark.parametrize("attrs", [{"a": (1, 2)}, {"a": object()}, {1: "a"}, {"a": np.float64(1)}])
def test_what_people_attach_is_kept_or_refused(tmp_path: Path, attrs: dict[Any, Any]):
    table = pd.DataFrame({"a": [1]})
    table.attrs = attrs
    with pytest.raises(ArtifactError):
        write_artifact("table", tmp_path / "file", table)


def test_a_table_that_allows_no_duplicates_is_refused(tmp_path: Path):
    table = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    with pytest.raises(ArtifactError, match="flags would be lost"):
        write_artifact("table", tmp_path / "file", table)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_tables_that_hypothesis_makes(tmp_path: Path, data: st.DataObject):
    """Either format gives back what it took."""
    rows = data.draw(st.integers(0, 4))
    columns = st.one_of(
        hnp.arrays(hnp.scalar_dtypes(), rows),
        st.lists(st.text() | st.none(), min_size=rows, max_size=rows),
        st.lists(
            st.sampled_from(["1", "0x1", "NA", "nan", "True", "1e3"]), min_size=rows, max_size=rows
        ),
        st.lists(st.integers(0, 9) | st.none(), min_size=rows, max_size=rows).map(
            lambda values: pd.array(values, dtype="Int64")
        ),
    )
    names = data.draw(st.lists(st.text(max_size=3), min_size=1, max_size=3))
    try:
        table = pd.DataFrame(
            {place: data.draw(columns) for place in range(len(names))}, index=range(rows)
        )
    except (ValueError, OverflowError):  # times that pandas has no word for
        return
    table.columns = pd.Index(names, dtype="str")
    for format_name in ("table", "csv"):
        file = tmp_path / format_name
        try:
            write_artifact(format_name, file, table)
        except ArtifactError:
            continue
        back = read_artifact(format_name, file)
        pd.testing.assert_frame_equal(back, table, check_exact=True)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("digits", ["01234", "00001"]),
        ("truth", ["True", "False"]),
        ("when", TIMES[:2]),
        ("took", pd.to_timedelta([1, 2])),
        ("kind", pd.Categorical(["a", "b"])),
        ("month", pd.period_range("2024", periods=2, freq="M")),
        ("count", pd.array([1, None], dtype="Int64")),
        ("small", np.array([0.5, 0.25], np.float32)),
        ("broken", ["c\rd", "e"]),
        ("gaps only", ["", "a"]),
        ("nothing", np.empty(2, object)),
        ("odd", [{}, {1}]),
        ("place", [Path("a"), Path("b")]),
        ("raw", [b"a", b"b"]),
    ],
)
def test_a_csv_that_would_not_read_back_is_refused_by_the_columns_name(
    tmp_path: Path, name: str, column: Any
):
    with pytest.raises(ArtifactError, match="declare the output as `table`") as caught:
        write_artifact("csv", tmp_path / "file", pd.DataFrame({"fine": [1, 2], name: column}))
    assert f"the column '{name}'" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (pd.DataFrame({"a": [1]}, index=[5]), "the index: a pandas.*Index would come back as"),
        (pd.DataFrame({"a": [1, 2, 3]})[1:], "the index: its start: 1 would come back as 0"),
        (pd.DataFrame({"a": [1]}).rename_axis("id"), "the index: its names"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "the column 'a' would come back as 'a.1'"),
        (pd.DataFrame([[1]], columns=[0]), "the column 0 would come back as '0'"),
        (pd.DataFrame({"a": []}), "the column 'a': the dtype float64 would come back as object"),
    ],
)
def test_a_csv_that_would_lose_names_or_the_index_is_refused(
    tmp_path: Path, table: pd.DataFrame, says: str
):
    with pytest.raises(ArtifactError, match=says):
        write_artifact("csv", tmp_path / "file", table)
