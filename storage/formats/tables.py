"""Tables as files: CSV for people, and `table`, which keeps what pandas says of each column.

A `table` is an `.npz` archive: the arrays that its columns are made of, and under `schema`, as JSON
in UTF-8, how they make the table. Nothing in it can execute code, and it needs no other library.
pandas is imported where it is used: planning a run and serving a cached one need no tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from digitflow.storage.digests import check_keys
from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats.arrays import read_npz, write_npz
from digitflow.storage.formats.cells import guarded, unguarded

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

DECLARE_TABLE = (
    "; declare the output as `table`, which keeps types and the index, or as `text`, and return "
    "what `to_csv` gives"
)
_SCHEMA = "schema"
_MICROSECOND = timedelta(microseconds=1)

Arrays = dict[str, "NDArray[Any]"]


def write_csv(path: Path, value: pd.DataFrame) -> dict[str, Any]:
    """Write a table for people; no text in it is a formula to a spreadsheet, see `guarded`."""
    if not len(value.columns):
        message = "expected a table with columns, found one without"
        raise ArtifactError(message)
    for place, name in enumerate(value.columns):
        texts = "".join(each for each in value.iloc[:, place] if isinstance(each, str))
        if "\r" in texts or not _is_utf8(texts):  # what follows would be read as another column's
            message = f"the column {name!r}: expected texts without carriage returns, in UTF-8"
            raise ArtifactError(message + DECLARE_TABLE)
    _with_texts(value, guarded).to_csv(path, index=False, lineterminator="\n")
    return _details(value)


def _with_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Return a table with its texts and the names of its columns changed; itself if none does."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, str) else value

    shown = table
    for place in range(len(table.columns)):
        column = table.iloc[:, place]
        if any(isinstance(each, str) and change(each) != each for each in column):
            shown = shown.copy() if shown is table else shown
            shown.isetitem(place, column.map(changed).array)
    if any(changed(name) != name for name in table.columns):
        shown = shown.set_axis([changed(name) for name in table.columns], axis="columns")
    return shown


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that was written for people: what a column holds is guessed."""
    import pandas as pd

    # A gap is what `to_csv` leaves empty; a class may well be called NA. Numbers come back to
    # the last bit from pandas 3.1 on, where `float_precision` is deprecated.
    read = pd.read_csv(path, keep_default_na=False, na_values=[""])
    return _with_texts(read, unguarded)


def write_table(path: Path, value: pd.DataFrame) -> dict[str, Any]:
    """Write a table with the dtypes of its columns, its index and the names of both."""
    import numpy as np

    arrays: Arrays = {}
    check_keys(value.attrs)
    schema = {
        "columns": _from_index(
            value.columns, arrays, f"the column names {[*value.columns]!r:.100}"
        ),
        "index": _from_index(value.index, arrays, "the index"),
        "values": [
            _from_column(value.iloc[:, place].array, arrays, f"the column {name!r}")
            for place, name in enumerate(value.columns)
        ],
        "attrs": value.attrs,
    }
    text = json.dumps(schema, sort_keys=True, ensure_ascii=False, allow_nan=False)
    # Python's strings may hold halves of surrogate pairs, as names of files do.
    schema_bytes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    write_npz(path, {_SCHEMA: schema_bytes, **arrays})
    return _details(value)


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as it was written."""
    arrays = read_npz(path)
    return _table(_schema(arrays), arrays)


def outline_table(path: Path) -> pd.DataFrame:
    """Read a table but for what its columns of plain numbers and times hold."""
    schema = _schema(read_npz(path, lambda name: name != _SCHEMA))
    plain = {each["numbers"] for each in schema["values"] if each.keys() == {"numbers"}}
    return _table(schema, read_npz(path, plain.__contains__))


def _schema(arrays: Arrays) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(arrays[_SCHEMA].tobytes().decode("utf-8", "surrogatepass"))
    return schema


def _table(schema: dict[str, Any], arrays: Arrays) -> pd.DataFrame:
    import pandas as pd

    columns = dict(enumerate(_to_column(each, arrays) for each in schema["values"]))
    index = _to_index(schema["index"], arrays)
    # Each column is an array of its own already, which nobody else has.
    table = pd.DataFrame(columns, index=index, copy=False)
    table.columns = _to_index(schema["columns"], arrays)
    table.attrs.update(schema["attrs"])
    return table


def _details(value: pd.DataFrame) -> dict[str, Any]:
    return {"columns": [str(name) for name in value.columns], "rows": len(value)}


def _from_index(index: Any, arrays: Arrays, what: str) -> dict[str, Any]:
    """Describe an index in JSON, and add its arrays to the others."""
    import pandas as pd

    for name in index.names:
        if type(name) not in (str, int, type(None)):
            message = f"{what}: expected a string as its name, found {name!r}"
            raise ArtifactError(message)
    if isinstance(index, pd.RangeIndex):
        return {"range": [index.start, index.stop, index.step], "name": index.name}
    if isinstance(index, pd.MultiIndex):
        return {
            "levels": [_from_index(level, arrays, what) for level in index.levels],
            "codes": [_add(codes, arrays) for codes in index.codes],
            "names": [*index.names],
        }
    is_dated = isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex)
    return {
        "of": _from_column(index.array, arrays, what),
        "name": index.name,
        "freq": index.freqstr if is_dated else None,  # of a regular one
    }


def _to_index(schema: dict[str, Any], arrays: Arrays) -> pd.Index[Any]:
    import pandas as pd

    if "range" in schema:
        start, stop, step = schema["range"]
        return pd.RangeIndex(start, stop, step, name=schema["name"])
    if "levels" in schema:
        return pd.MultiIndex(
            levels=[_to_index(level, arrays) for level in schema["levels"]],  # type: ignore[misc]
            codes=[arrays[each] for each in schema["codes"]],  # type: ignore[misc]
            names=schema["names"],
        )
    values = _to_column(schema["of"], arrays)
    index: pd.Index[Any] = pd.Index(values, name=schema["name"], dtype=values.dtype)
    if schema["freq"] is not None:
        index.freq = schema["freq"]  # type: ignore[attr-defined]
    return index


def _from_column(values: Any, arrays: Arrays, what: str) -> dict[str, Any]:
    """Describe the array of a column in JSON, and add what it is made of to the others."""
    import numpy as np
    import pandas as pd

    if type(values) is pd.arrays.NumpyExtensionArray:  # which the array of texts derives from
        values = values.to_numpy()
    dtype = values.dtype
    match dtype:
        case np.dtype() if not dtype.hasobject:
            return {"numbers": _add(np.asarray(values), arrays)}
        case np.dtype() if not len(values):
            return {"objects": 0}
        case pd.StringDtype():
            missing = "NA" if dtype.na_value is pd.NA else "NaN"
            texts = values.to_numpy(dtype=object, na_value=None).tolist()
            return {"texts": texts, "missing": missing}
        case pd.CategoricalDtype():
            return {
                "codes": _add(np.asarray(values.codes), arrays),
                "categories": _from_index(dtype.categories, arrays, what),
                "ordered": dtype.ordered,
            }
        case pd.DatetimeTZDtype():
            utc = values.tz_convert(None).to_numpy()
            return {"times": _add(utc, arrays), "zone": _from_zone(dtype.tz, what)}
        case pd.PeriodDtype():
            return {"ordinals": _add(values.astype("int64"), arrays), "period": str(dtype)}
        case pd.IntervalDtype():
            return {
                "left": _from_column(values.left.array, arrays, what),
                "right": _from_column(values.right.array, arrays, what),
                "closed": dtype.closed,
            }
    if isinstance(
        values, pd.arrays.BooleanArray | pd.arrays.IntegerArray | pd.arrays.FloatingArray
    ):
        plain = values.to_numpy(dtype=dtype.numpy_dtype, na_value=dtype.type(0))
        return {"numbers": _add(plain, arrays), "mask": _add(values.isna(), arrays)}
    kind = f"the dtype {dtype}"
    if isinstance(dtype, np.dtype):
        kinds = sorted({type(each).__name__ for each in values})
        kind = f"Python objects ({', '.join(kinds)})"
    message = (
        f"{what}: expected numbers, texts, categories, times, periods or intervals, found {kind}; "
        "convert it with astype"
    )
    raise ArtifactError(message)


def _to_column(schema: dict[str, Any], arrays: Arrays) -> Any:
    import numpy as np
    import pandas as pd

    match schema:
        case {"numbers": name, "mask": mask}:
            masked = {"b": pd.arrays.BooleanArray, "f": pd.arrays.FloatingArray}
            kind = masked.get(arrays[name].dtype.kind, pd.arrays.IntegerArray)
            return kind(arrays[name], arrays[mask])
        case {"numbers": name}:
            return arrays[name]
        case {"objects": 0}:
            return np.empty(0, object)
        case {"texts": list(texts), "missing": missing}:
            na_value = pd.NA if missing == "NA" else np.nan
            return pd.array(texts, dtype=pd.StringDtype(na_value=na_value))
        case {"codes": codes, "categories": categories, "ordered": bool(ordered)}:
            dtype = pd.CategoricalDtype(_to_index(categories, arrays), ordered)
            return pd.Categorical.from_codes(arrays[codes], dtype=dtype)
        case {"times": times, "zone": zone}:
            utc = pd.DatetimeIndex(arrays[times]).tz_localize("UTC")
            return utc.tz_convert(_to_zone(zone)).array
        case {"ordinals": ordinals, "period": period}:
            frequency = pd.PeriodDtype(period.removeprefix("period[").removesuffix("]"))
            return pd.arrays.PeriodArray(arrays[ordinals], dtype=frequency)
        case {"left": left, "right": right, "closed": closed}:
            return pd.arrays.IntervalArray.from_arrays(
                _to_column(left, arrays), _to_column(right, arrays), closed=closed
            )
    message = f"expected a column, found {schema!r:.100}"
    raise ValueError(message)


def _add(array: NDArray[Any], arrays: Arrays) -> str:
    name = str(len(arrays))
    arrays[name] = array
    return name


def _from_zone(zone: tzinfo, what: str) -> str | int:
    if isinstance(zone, ZoneInfo) and zone.key is not None:
        return zone.key
    if isinstance(zone, timezone):
        return zone.utcoffset(None) // _MICROSECOND
    message = (
        f"{what}: expected a time zone of zoneinfo or datetime.timezone, found {zone!r}; "
        "convert it with tz_convert"
    )
    raise ArtifactError(message)


def _to_zone(zone: str | int) -> tzinfo:
    if not isinstance(zone, str):
        return timezone(zone * _MICROSECOND)
    with suppress(ZoneInfoNotFoundError):
        return ZoneInfo(zone)
    message = f"expected a time zone that this machine knows, found {zone!r:.100}"
    raise ValueError(message)
