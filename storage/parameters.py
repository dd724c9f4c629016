"""Values of parameters as JSON: equal values alike, and different ones differently.

What JSON has a form for stays as it is, so that people read it in a record. Everything else gets
its type beside it: 1, 1.0, True, `numpy.int64(1)` and "1" are five values, and so are a date and
its text, a tuple and a list. What cannot be told from another value is refused.

NumPy is not imported: a value of its types can only come from where it is loaded.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import partial
from pathlib import PurePath
from types import FunctionType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from digitflow.storage.code.live import method_function
from digitflow.storage.digests import canonical_json

_TYPE, _VALUE = "$type", "$value"
_BY_TEXT = (Decimal, Fraction, UUID, date)
_BUILT_IN = (str, bytes, int, float, list, dict, set, frozenset)
_ADVICE = "make an input of it, or hand over the plain values that it stands for"

Counts = Callable[[type], bool]


def canonical(value: Any, place: str, counts: Counts = lambda kind: False) -> Any:
    """Return a value as JSON that no other value has.

    Parameters
    ----------
    value
        None, booleans, numbers, texts and bytes; dates, times and durations; `Decimal`, `Fraction`,
        `UUID`, paths; scalars of NumPy; members of enums; lists, tuples, sets, dicts, named tuples
        and dataclasses of such values.
    place
        What it is, for the error.
    counts
        Tells whether the code of a class is part of the key. Of other classes only fields and
        members can be told, so they must have nothing else.

    Raises
    ------
    TypeError
        Naming the place, if the value cannot be told from another one.
    """
    try:
        return _canonical(value, place, counts)
    except RecursionError:
        message = f"{place}: expected a value that does not contain itself, found {_kind(value)}"
        raise TypeError(message) from None


def is_tagged(document: Any) -> bool:
    """Tell whether a part of such JSON stands for a value that JSON has no form for."""
    return isinstance(document, Mapping) and _TYPE in document


def untagged(document: Any) -> Any:
    """Return such JSON for people to read."""
    if is_tagged(document):
        kind, value = str(document[_TYPE]), document.get(_VALUE)
        return f"{kind.rpartition(':')[2]} {untagged(value)}"
    if isinstance(document, list):
        return [untagged(each) for each in document]
    if isinstance(document, Mapping):
        return {name: untagged(each) for name, each in document.items()}
    return document


def _canonical(value: Any, place: str, counts: Counts) -> Any:
    kind = type(value)
    several = partial(_several, place=place, counts=counts)
    if value is None or kind is bool:
        return value
    if kind in (int, str):
        return _checked(value, place)
    if kind is float:
        return value if math.isfinite(value) else _tagged("float", repr(value))
    if kind is complex:
        return _tagged("complex", several((value.real, value.imag)))
    if kind is bytes:
        return _tagged("bytes", value.hex())
    if kind is list:
        return several(value)
    if kind is tuple:
        return _tagged("tuple", several(value))
    if kind in (set, frozenset):
        return _tagged(kind.__name__, sorted(several(value), key=canonical_json))
    if kind is dict:
        if all(type(key) is str for key in value) and _TYPE not in value:
            return {
                _checked(key, place): _canonical(each, f"{place}[{key!r}]", counts)
                for key, each in value.items()
            }
        items = [several(item) for item in value.items()]
        return _tagged("dict", sorted(items, key=canonical_json))
    if kind in (datetime, time):
        zone = value.tzinfo
        if zone is None or type(zone) is timezone or (type(zone) is ZoneInfo and zone.key):
            return _tagged(kind.__name__, [value.isoformat(), value.fold, repr(zone)])
        return _refuse(value, place, f"its time zone {zone!r} cannot be told from others")
    if kind is timedelta:
        return _tagged("timedelta", [value.days, value.seconds, value.microseconds])
    if kind in _BY_TEXT or (isinstance(value, PurePath) and kind.__module__.startswith("pathlib")):
        return _tagged(kind.__name__, _checked(str(value), place))
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return _of_numpy(value, place, counts)
    return _of_class(value, place, counts)


def _several(values: Iterable[Any], place: str, counts: Counts) -> list[Any]:
    return [_canonical(each, f"{place}[{number}]", counts) for number, each in enumerate(values)]


def _of_numpy(value: Any, place: str, counts: Counts) -> Any:
    name = f"numpy.{value.dtype.name}"
    if value.dtype.kind in "mM":
        return _tagged(name, str(value))
    item = value.item()
    if type(item) in (bool, int, float, complex, str, bytes):
        return _tagged(name, _canonical(item, place, counts))
    if value.dtype.kind in "fc":  # longer than Python's
        return _tagged(name, repr(value))
    return _refuse(value, place, "it may hold anything")


def _of_class(value: Any, place: str, counts: Counts) -> Any:
    kind = type(value)
    if isinstance(value, Enum):
        parts: dict[str, Any] = {"name": value.name, "value": value.value}
        known = {*kind.__members__}
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        parts = dict(zip(kind._fields, value, strict=True))
        known = {*kind._fields}
    elif dataclasses.is_dataclass(value) and not isinstance(value, (*_BUILT_IN, tuple)):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        parts = {**fields, **getattr(value, "__dict__", {})}
        known = {*fields}
    else:
        return _refuse(value, place, "it cannot be told from others")
    unseen = [] if counts(kind) else sorted(_unseen(kind, known))
    if unseen:
        return _refuse(
            value,
            place,
            f"the key would not notice a change of its {', '.join(unseen)}; name "
            f"{kind.__name__} in the body of the stage",
        )
    inner = {name: _canonical(each, f"{place}.{name}", counts) for name, each in parts.items()}
    return _tagged(f"{kind.__module__}:{kind.__qualname__}", inner)


def _unseen(kind: type, known: set[str]) -> Iterable[str]:
    """Yield what a class has beside fields or members: code, and constants."""
    for base in kind.__mro__:
        if base.__module__ in sys.stdlib_module_names:
            continue
        for name, each in vars(base).items():
            if name in known:
                continue
            function = method_function(each)
            if function is None:
                if not name.startswith("_"):
                    yield name
            elif _is_written(function):
                yield name


def _is_written(function: FunctionType) -> bool:
    """Tell whether a function is somebody's own, and no part of what makes such classes."""
    modules = (sys.modules.get(name) for name in ("dataclasses", "enum", "collections", "typing"))
    made = {module.__file__ for module in modules if module is not None}
    return function.__code__.co_filename not in {"<string>", *made}


def _checked(value: Any, place: str) -> Any:
    """Return an integer or a text, if it can be written."""
    try:
        canonical_json(value)
    except ValueError as error:
        message = f"{place}: expected a value that can be written, found {_kind(value)}: {error}"
        raise TypeError(message) from error
    return value


def _tagged(kind: str, value: Any) -> dict[str, Any]:
    return {_TYPE: kind, _VALUE: value}


def _refuse(value: Any, place: str, why: str) -> Any:
    message = f"{place}: found {_kind(value)}, and {why}; {_ADVICE}"
    raise TypeError(message)


def _kind(value: Any) -> str:
    kind = type(value)
    return f"a value of the type {kind.__module__}.{kind.__qualname__}"
