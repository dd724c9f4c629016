"""Whatever a writer takes comes back as it went in; the rest is refused, and named."""

import datetime as dt
import enum
from collections import OrderedDict
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats import artifacts
from digitflow.storage.formats.artifacts import FORMATS, Format, read_artifact, write_artifact
from digitflow.storage.formats.sameness import difference
from digitflow.storage.keys import StageKey
from digitflow.storage.store import Store

BOUNDED = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Colour(enum.IntEnum):
    RED = 1


class Name(str):
    pass


CIRCULAR: list[Any] = []
CIRCULAR.append(CIRCULAR)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, (2, 3)]}, r"\['a'\]\[1\]: a tuple would come back as a list"),
        ((1, 2), "a tuple would come back as a list"),
        ({"a": {1: "x"}}, r"\['a'\]: expected strings as keys .* found 1"),
        ({"a": {None: "x"}}, r"\['a'\]: expected strings as keys"),
        ({"a": {True: "x"}}, r"\['a'\]: expected strings as keys"),
        ({"a": [0.5, np.nan]}, r"\['a'\]\[1\]: .*not JSON compliant"),
        ({"a": float("-inf")}, r"\['a'\]: .*not JSON compliant"),
        ({"a": 10**5000}, r"\['a'\]: .*digits"),
        ({"a": {"b": np.float32(0.1)}}, r"\['a'\]\['b'\]: .*float32 is not JSON"),
        ({"a": {"b": np.float64(0.1)}}, r"\['a'\]\['b'\]: a numpy.float64 .* as a float"),
        ({"a": np.int64(1)}, r"\['a'\]: .*int64 is not JSON"),
        ({"a": np.bool(True)}, r"\['a'\]: .*bool.* is not JSON"),
        ({"a": np.str_("x")}, r"\['a'\]: a numpy.str_ would come back as a str"),
        ({"a": np.arange(3)}, r"\['a'\]: .*ndarray is not JSON"),
        ({"a": pd.DataFrame()}, r"\['a'\]: .*DataFrame is not JSON"),
        ({"a": dt.date(2024, 1, 1)}, r"\['a'\]: .*date is not JSON"),
        ({"a": Decimal(1)}, r"\['a'\]: .*Decimal is not JSON"),
        ({"a": Path("x")}, r"\['a'\]: .*PosixPath is not JSON"),
        ({"a": {1, 2}}, r"\['a'\]: .*set is not JSON"),
        ({"a": b"x"}, r"\['a'\]: .*bytes is not JSON"),
        ({"a": Colour.RED}, r"\['a'\]: a .*Colour would come back as a int"),
        ({"a": Name("x")}, r"\['a'\]: a .*Name would come back as a str"),
        ({Name("a"): 1}, "the keys .* would come back as"),
        (OrderedDict(a=1), "OrderedDict would come back as a dict"),
        ({"a": "\ud800"}, r"\['a'\]: .*surrogates not allowed"),
        ({"\ud800": 1}, "surrogates not allowed"),
        ({"a": CIRCULAR}, "format json, found dict"),
        ({"a": DEEP}, "format json, found dict"),
    ],
)
def test_what_json_cannot_say_is_refused_by_its_place(tmp_path: Path, value: Any, says: str):
    with pytest.raises(ArtifactError, match=says):
        write_artifact("json", tmp_path / "file", value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


def identical(one: Any, other: Any) -> bool:
    """Equal in type, content and sign: written otherwise than `difference`."""
    return type(one) is type(other) and repr(sort(one)) == repr(sort(other))


def sort(value: Any) -> Any:
    if isinstance(value, dict):
        return [(key, sort(value[key])) for key in sorted(value)]
    return [sort(each) for each in value] if isinstance(value, list) else value


@BOUNDED
@given(JSON)
def test_documents_come_back_or_are_refused(tmp_path: Path, value: Any):
    try:
        write_artifact("json", tmp_path / "file", value)
    except ArtifactError:
        text = repr(value)
        assert any(each in text for each in ("(", "nan", "inf", "\\ud"))
        return
    assert identical(read_artifact("json", tmp_path / "file"), value)


@pytest.mark.parametrize("format_name", ["npy", "npz"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "a list would come back as an array"),
        ((1, 2), "a tuple would come back as an array"),
        (1.5, "a float would come back as an array"),
        (np.float64(1.5), "a numpy.float64 would come back as an array"),
        ("text", "a str would come back as an array"),
        (np.rec.array([(1, 2)], dtype=[("a", int), ("b", int)]), "recarray would come back"),
        (np.zeros(2, np.dtype((np.record, [("a", "i4")]))), "the dtype"),
        (np.char.array(["a"]), "chararray would come back"),
        (np.array(["a"], np.dtypes.StringDType()), "found dtype StringDType"),
        (np.zeros(2, [("a", "O")]), "found dtype"),
        (None, "found dtype object|NoneType"),
    ],
)
def test_what_an_array_file_cannot_keep_is_refused(
    tmp_path: Path, format_name: str, value: Any, says: str
):
    given = value if format_name == "npy" else {"good": np.eye(2), "bad": value}
    with pytest.raises(ArtifactError, match=says) as caught:
        write_artifact(format_name, tmp_path / "file", given)
    assert format_name == "npy" or "'bad'" in str(caught.value)


def test_metadata_of_a_dtype_is_refused_as_numpy_would_lose_it(tmp_path: Path):
    array = np.zeros(2, np.dtype("i4", metadata={"unit": "m"}))  # type: ignore[call-overload]
    with (
        pytest.warns(UserWarning, match="metadata"),
        pytest.raises(ArtifactError, match="the metadata of the dtype"),
    ):
        write_artifact("npy", tmp_path / "file", array)


@pytest.mark.parametrize(
    "value",
    [
        {1: np.eye(2)},
        {"a\0b": np.eye(2)},
        {"a": [np.eye(2)]},
        OrderedDict(a=np.eye(2)),
    ],
)
def test_what_an_archive_cannot_keep_is_refused(tmp_path: Path, value: Any):
    with pytest.raises(ArtifactError, match="npz"):
        write_artifact("npz", tmp_path / "file", value)


STRUCTURED = hnp.array_dtypes(hnp.scalar_dtypes(), min_size=1, max_size=3)


@BOUNDED
@given(
    hnp.arrays(hnp.scalar_dtypes() | STRUCTURED, hnp.array_shapes(min_dims=0, max_side=3)),
    st.text(max_size=3),
)
def test_arrays_come_back_in_dtype_shape_and_bytes(tmp_path: Path, array: Any, name: str):
    for format_name, value in (("npy", array), ("npz", {name: array})):
        file = tmp_path / format_name
        try:
            write_artifact(format_name, file, value)
        except ArtifactError:
            # What an archive does to a name: it ends at NUL, and must be text.
            assert format_name == "npz"
            assert not name.isprintable()
            continue
        back = read_artifact(format_name, file)
        if format_name == "npz":
            assert [*back] == [name]
            back = back[name]
        assert (back.dtype, back.shape) == (array.dtype, array.shape)
        assert back.dtype.str == array.dtype.str  # byte order
        assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("format_name", "value", "says"),
    [
        ("text", b"bytes", "expected a value of the format text, found bytes"),
        ("text", "\ud800", "surrogates not allowed"),
        ("text", Name("x"), "Name would come back as a str"),
        ("png", bytearray(artifacts.PNG_SIGNATURE), "expected the bytes of a PNG"),
    ],
)
def test_what_other_formats_cannot_keep_is_refused(
    tmp_path: Path, format_name: str, value: Any, says: str
):
    with pytest.raises(ArtifactError, match=says):
        write_artifact(format_name, tmp_path / "file", value)


@pytest.mark.parametrize("text", ["", "a", "two\nlines\r\n", "\rö\0→\ufeff"])
def test_texts_come_back_with_their_line_ends(tmp_path: Path, text: str):
    assert write_artifact("text", tmp_path / "file", text) == {"characters": len(text)}
    assert read_artifact("text", tmp_path / "file") == text


VALUES: dict[str, Any] = {
    "npy": np.arange(3),
    "npz": {"a": np.arange(3)},
    "table": pd.DataFrame({"a": [1, 2]}),
    "csv": pd.DataFrame({"a": [1, 2]}),
    "json": {"a": [1, 2.5]},
    "png": artifacts.PNG_SIGNATURE + bytes(16),
    "text": "ab",
}
OTHERS: dict[str, Callable[[Any], Any]] = {
    "npy": lambda value: value.astype(float),
    "npz": lambda value: {"a": value["a"][:2]},
    "table": lambda value: value.assign(a=[1, 3]),
    "csv": lambda value: value.rename(columns={"a": "b"}),
    "json": lambda value: {"a": [1, 2]},
    "png": lambda value: value + b"x",
    "text": lambda value: value.upper(),
}


@pytest.mark.parametrize(
    "format_name", [name for name in FORMATS if name not in ("file", "folder")]
)
def test_every_writer_is_held_to_what_its_reader_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str
):
    value, form = VALUES[format_name], FORMATS[format_name]
    write_artifact(format_name, tmp_path / "file", value)
    spoilt = Format(form.suffix, form.write, lambda path: OTHERS[format_name](form.read(path)))
    monkeypatch.setattr(artifacts, "FORMATS", {format_name: spoilt})
    with pytest.raises(ArtifactError, match="does not keep it"):
        write_artifact(format_name, tmp_path / "file", value)


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (0.0, -0.0, "0.0 would come back as -0.0"),
        (1, 1.0, "a int would come back as a float"),
        (1, True, "a int would come back as a bool"),
        ([1, 2], [1], "2 items would come back as 1"),
        ({"a": 1}, {"b": 1}, "the keys"),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, r"['a'][0]['b']: 1 would come back as 2"),
        (np.zeros(2, "<i4"), np.zeros(2, ">i4"), "the dtype"),
        (np.zeros(()), np.zeros(1), "the shape () would come back as (1,)"),
    ],
)
def test_differences(one: Any, other: Any, says: str):
    assert says in str(difference(one, other))


def test_nan_is_nan():
    assert difference([float("nan")], [float("nan")]) is None


def obtain(store: Store, values: Mapping[str, Any], formats: Mapping[str, str]) -> Any:
    def compute(scratch: Path) -> Mapping[str, Any]:
        (scratch / "kept").write_text("long work")
        return {**values, "file": scratch / "kept"}

    return store.cache.obtain(
        StageKey("make", {}, {}, {}), "make", compute, {"file": "file", **formats}, run="r"
    )


def test_where_one_output_is_refused_nothing_is_stored_or_moved(tmp_path: Path):
    store = Store(tmp_path / "store")
    values = {"good": np.eye(3), "summary": {"scores": {"mean": np.float64(0.5)}}}
    with pytest.raises(
        ArtifactError, match=r"summary of make: .*\['scores'\]\['mean'\]: a numpy.float64"
    ):
        obtain(store, values, {"good": "npy", "summary": "json"})
    assert list(store.objects) == []
    assert [each.read_text() for each in store.root.glob("scratch/*/kept")] == ["long work"]
    assert list(store.root.glob("objects/tmp/*")) == []


def test_a_file_is_one_output_only(tmp_path: Path):
    store = Store(tmp_path / "store")

    def compute(scratch: Path) -> Mapping[str, Any]:
        (scratch / "x").write_text("x")
        return {"a": scratch / "x", "b": scratch / "x"}

    formats = {"a": "file", "b": "file"}
    with pytest.raises(ArtifactError, match="b of make: expected the path of a file of its own"):
        store.cache.obtain(StageKey("make", {}, {}, {}), "make", compute, formats, run="r")


def test_an_array_in_scratch_can_be_two_outputs(tmp_path: Path):
    store = Store(tmp_path / "store")

    def compute(scratch: Path) -> Mapping[str, Any]:
        array = np.lib.format.open_memmap(scratch / "x.npy", "w+", np.int64, (3,))
        array[:] = 7
        return {"a": array, "b": array}

    formats = {"a": "npy", "b": "npy"}
    made = store.cache.obtain(StageKey("make", {}, {}, {}), "make", compute, formats, run="r")
    assert [store.read(each).tolist() for each in made.record.outputs.values()] == [[7] * 3] * 2
