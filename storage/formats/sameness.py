"""Whether a value that was stored comes back as it went in: the same type, and the same content.

Every writer is held to it, so that a stage is given in a pipeline what it is given in a test.
Arrays are not looked at number by number: without Python objects, an array is written as the bytes
that it is, and what can be lost is its type, its dtype and its shape.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitflow.storage.formats.arrays import is_outline

if TYPE_CHECKING:
    import pandas as pd

_LONGEST = 60  # characters of a value in a message


def difference(value: Any, back: Any, place: str = "") -> str | None:
    """Say where a value and what was read back differ first, or None if they do not.

    Parameters
    ----------
    value
        What was written.
    back
        What was read.
    place
        Where it lies in the value of which it is a part, such as ``['scores'][3]``.
    """
    if isinstance(value, Path) and isinstance(back, Path):
        return None  # a file that was moved: its bytes are what they were
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    at = f"{place}: " if place else ""
    if numpy is not None and isinstance(back, numpy.ndarray):
        lost = _array_difference(value, back)
        return lost and at + lost
    if type(value) is not type(back):
        return f"{at}{_kind(value)} would come back as {_kind(back)}"
    if pandas is not None and isinstance(back, pandas.DataFrame):
        lost = _table_difference(value, back)
        return lost and at + lost
    if isinstance(back, dict):
        if value.keys() != back.keys() or {*map(type, value)} != {*map(type, back)}:
            return f"{at}the keys {_shown([*value])} would come back as {_shown([*back])}"
        parts = ((f"{place}[{key!r}]", value[key], back[key]) for key in value)
    elif isinstance(back, list):
        if len(value) != len(back):
            return f"{at}{len(value)} items would come back as {len(back)}"
        parts = (
            (f"{place}[{number}]", *pair)
            for number, pair in enumerate(zip(value, back, strict=True))
        )
    elif _is_same(value, back):
        return None
    else:
        return f"{at}{_shown(value)} would come back as {_shown(back)}"
    return next((lost for each in parts if (lost := difference(each[1], each[2], each[0]))), None)


def _is_same(value: Any, back: Any) -> bool:
    if isinstance(value, float):
        both_nan = math.isnan(value) and math.isnan(back)
        return both_nan or (value == back and math.copysign(1, value) == math.copysign(1, back))
    return bool(value == back)


def _array_difference(value: Any, back: Any) -> str | None:
    import numpy as np

    if type(value) not in (np.ndarray, np.memmap):
        return f"{_kind(value)} would come back as an array"
    if value.shape != back.shape:
        return f"the shape {value.shape} would come back as {back.shape}"
    if value.dtype != back.dtype or value.dtype.type is not back.dtype.type:
        return f"the dtype {value.dtype!r} would come back as {back.dtype!r}"
    if np.lib.format.drop_metadata(value.dtype) is not value.dtype:
        return f"the metadata of the dtype {value.dtype!r} would be lost"
    return None


def _table_difference(value: pd.DataFrame, back: pd.DataFrame) -> str | None:
    for one, other in zip(value.columns, back.columns, strict=False):
        if repr(one) != repr(other):
            return f"the column {one!r} would come back as {other!r}"
    for what, index, other_index in (
        ("the column names", value.columns, back.columns),
        ("the index", value.index, back.index),
    ):
        lost = _index_difference(index, other_index)
        if lost:
            return f"{what}: {lost}"
    for place, name in enumerate(value.columns):
        lost = _column_difference(value.iloc[:, place].array, back.iloc[:, place].array)
        if lost:
            return f"the column {name!r}: {lost}"
    if value.flags != back.flags:
        return "its flags would be lost"
    return difference(value.attrs, back.attrs, "attrs")


def _index_difference(one: Any, other: Any) -> str | None:
    if type(one) is not type(other):
        return f"{_kind(one)} would come back as {_kind(other)}"
    lost = difference([*one.names], [*other.names])
    if lost:
        return f"its names: {lost}"
    for attribute in ("freq", "start", "stop", "step", "nlevels"):
        lost = difference(getattr(one, attribute, None), getattr(other, attribute, None))
        if lost:
            return f"its {attribute}: {lost}"
    if one.nlevels == 1:
        return None if hasattr(one, "step") else _column_difference(one.array, other.array)
    for level in range(one.nlevels):
        if not (one.codes[level] == other.codes[level]).all():
            return f"level {level} would come back otherwise"
        lost = _index_difference(one.levels[level], other.levels[level])
        if lost:
            return f"level {level}: {lost}"
    return None


def _column_difference(one: Any, other: Any) -> str | None:
    """Compare two pandas arrays: dtype, missing values, and values where they were read."""
    import numpy as np
    import pandas as pd

    same = one.dtype == other.dtype
    if same and isinstance(one.dtype, pd.DatetimeTZDtype):
        same = repr(one.dtype.tz) == repr(other.dtype.tz)
    if not same:
        return f"the dtype {one.dtype} would come back as {other.dtype}"
    if isinstance(one.dtype, pd.CategoricalDtype):
        lost = _index_difference(one.categories, other.categories)
        if lost:
            return f"its categories: {lost}"
    if len(one) != len(other):
        return f"{len(one)} rows would come back as {len(other)}"
    is_plain = isinstance(one.dtype, np.dtype) or type(one) is pd.arrays.NumpyExtensionArray
    if is_plain and is_outline(np.asarray(other)):
        return None
    if one.equals(other):
        return None
    rows = (slice(place, place + 1) for place in range(len(one)))
    first = next((row.start for row in rows if not one[row].equals(other[row])), 0)
    return f"{_shown(one[first])} in row {first} would come back as {_shown(other[first])}"


def _kind(value: Any) -> str:
    kind = type(value)
    name = kind.__qualname__
    return f"a {name if kind.__module__ == 'builtins' else f'{kind.__module__}.{name}'}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
