"""What is bound now where a stage's code was read: replaced functions, and constants that were set.

A module's names can be bound anew while a program runs: by tests, by `importlib.reload`, by hand in
a notebook. What deviates from the source becomes part of the key, so that nothing is served that
was made otherwise; what has no form that could be compared gets a part that no other key has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any
from uuid import uuid4

from digitflow.storage.code.digest import Closure, Reached
from digitflow.storage.code.loaded import executed
from digitflow.storage.code.syntax import IS_FUNCTION, Unit, digest_value
from digitflow.storage.digests import digest_bytes

_ABSENT = object()


def deviations(
    closure: Closure, functions: Mapping[str, FunctionType]
) -> dict[str, dict[str, str]]:
    """Return what is bound otherwise than the source says.

    Parameters
    ----------
    closure
        What a stage reaches.
    functions
        The functions that it starts from, by the names of their modules.

    Returns
    -------
    dict of dict of str
        Path of a module → name → a digest of what is bound instead.
    """
    found: dict[str, dict[str, str]] = {}
    for name, reached in closure.reached.items():
        function = functions.get(name)
        module = sys.modules.get(name)
        if function is not None:
            module = sys.modules.get(str(function.__globals__.get("__name__")), module)
        if module is None:
            continue
        names = vars(module) if function is None else function.__globals__
        code = executed(module)
        known = _functions(code) if code is not None else None
        for label, instead in _in_module(names, known, reached):
            found.setdefault(reached.path, {})[f"{label}, as set"] = instead
        if function is not None and known is not None:
            label = function.__code__.co_qualname
            if not _comes_from(function, known.get(label, [])):
                found.setdefault(reached.path, {})[f"{label}, as loaded"] = _digest(function)
    return found


def _in_module(
    names: Mapping[str, Any], known: Mapping[str, list[CodeType]] | None, reached: Reached
) -> Iterator[tuple[str, str]]:
    for unit in reached.units:
        if len(unit.binds) == 1 and unit.binds[0] == unit.label and unit.label in reached.once:
            yield from _of_unit(unit, names.get(unit.label, _ABSENT), known)
    for binding in reached.bindings:
        if binding.name not in reached.once or not binding.attribute or binding.name == "*":
            continue
        source = sys.modules.get(binding.module)
        there = vars(source).get(binding.attribute, _ABSENT) if source is not None else _ABSENT
        here = names.get(binding.name, _ABSENT)
        if here is not there and _ABSENT not in (here, there) and not _is_same(here, there):
            yield binding.name, _digest(here)


def _of_unit(
    unit: Unit, value: Any, known: Mapping[str, list[CodeType]] | None
) -> Iterator[tuple[str, str]]:
    if value is _ABSENT:
        return
    if unit.value == IS_FUNCTION:
        if known is not None and not _comes_from(value, known.get(unit.label, [])):
            yield unit.label, _digest(value)
        return
    if unit.value:
        if isinstance(value, list | dict | set):
            return  # it may be filled by what uses it
        if digest_value(value) != unit.value:
            yield unit.label, _digest(value)
        return
    if isinstance(value, type) and known is not None:
        for label in unit.parts:
            _, dot, method = label.partition(".")
            inner = _function_in(vars(value).get(method)) if dot else None
            if inner is not None and not _comes_from(inner, known.get(label, [])):
                yield label, _digest(inner)


def _is_same(one: Any, other: Any) -> bool:
    digest = digest_value(one)
    return bool(digest) and digest == digest_value(other)


def _comes_from(value: Any, codes: list[CodeType]) -> bool:
    return isinstance(value, FunctionType) and any(
        value.__code__ is each or value.__code__ == each for each in codes
    )


def method_function(value: Any) -> FunctionType | None:
    """Return the function of a method, a property, or a plain function; None of anything else."""
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, cached_property):
        value = value.func
    return value if isinstance(value, FunctionType) else None


def _function_in(value: Any) -> FunctionType | None:
    """Return the function behind a method without decorators of its own."""
    value = method_function(value)
    while isinstance(value, FunctionType) and hasattr(value, "__wrapped__"):
        value = value.__wrapped__
    return value if isinstance(value, FunctionType) else None


def _functions(code: CodeType) -> dict[str, list[CodeType]]:
    found: dict[str, list[CodeType]] = {}
    stack = [code]
    while stack:
        for each in stack.pop().co_consts:
            if isinstance(each, CodeType):
                found.setdefault(each.co_qualname, []).append(each)
                stack.append(each)
    return found


def _digest(value: Any) -> str:
    """Return a digest that nothing else has, as far as that can be told; else one of its own."""
    try:
        return digest_value(value) or digest_bytes(_pieces(value, 0).encode(errors="replace"))
    except _UntoldError:
        return uuid4().hex


class _UntoldError(Exception):
    """Nothing tells a value from another."""


def _pieces(value: Any, depth: int) -> str:
    """Return what decides what a function does, or the digest of a plain value."""
    if not isinstance(value, FunctionType):
        digest = digest_value(value)
        if not digest and not isinstance(value, ModuleType | type | BuiltinFunctionType):
            raise _UntoldError
        return digest or f"{getattr(value, '__module__', '')}.{value.__name__}"
    if value.__closure__ or depth > 20:
        raise _UntoldError
    pieces: list[str] = []
    pending = [value.__code__]
    while pending:
        code = pending.pop()
        pieces += [code.co_code.hex(), repr(code.co_names), repr(code.co_varnames)]
        for each in code.co_consts:
            if isinstance(each, CodeType):
                pending.append(each)
            else:
                pieces.append(digest_value(each))
        pieces += [
            _pieces(value.__globals__[name], depth + 1)
            for name in code.co_names
            if name in value.__globals__
        ]
    pieces += [_pieces(each, depth + 1) for each in value.__defaults__ or ()]
    given = value.__kwdefaults__ or {}
    pieces += [f"{name}={_pieces(given[name], depth + 1)}" for name in sorted(given)]
    return "\0".join(pieces)
