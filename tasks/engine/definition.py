"""Where the function of a stage is defined, and what wraps it.

A stage is known by its module and its qualified name; where a definition begins tells apart those
that share both. Values that a function takes from the function around it are not in any source, so
they are refused, at every level that `functools.wraps` leads through: all but what a wrapper
wraps, and plain values that a decorator was given, which are part of the key.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

from digitflow.storage.code.digest import Start
from digitflow.storage.digests import canonical_json


class Definition:
    """Where a function is defined.

    Parameters
    ----------
    function
        The function, perhaps wrapped.
    """

    def __init__(self, function: FunctionType) -> None:
        self._levels = list(_levels(function))
        self.function = self._levels[-1]

    def __str__(self) -> str:
        """Return ``module:qualified.name``, which tells it from other stages."""
        return f"{self._places[-1][0]}:{self.function.__code__.co_qualname}"

    @cached_property
    def _places(self) -> list[tuple[str, Path]]:
        return [_place(each) for each in self._levels]

    @property
    def files(self) -> dict[str, Path]:
        """The files of the modules that it starts from, which an import may not find."""
        return dict(self._places)

    @property
    def starts(self) -> list[Start]:
        """Where the code that counts starts: the function itself, then what wraps it."""
        return [
            Start(name, function.__code__.co_qualname, function.__code__.co_firstlineno)
            for (name, _), function in zip(self._places, self._levels, strict=True)
        ][::-1]

    def problem(self) -> str | None:
        """Say what of it the key would not notice."""
        code = self.function.__code__
        if code.co_name != self.function.__name__:
            return (
                f"its function is called {code.co_name} where it is defined; define it with `def` "
                f"under the name that it is to have"
            )
        if code.co_freevars:
            return (
                f"it takes {', '.join(code.co_freevars)} from the function around it; "
                f"make parameters of it"
            )
        for outer, inner in zip(self._levels, self._levels[1:], strict=False):
            for name, value in _cells(outer):
                if value is not inner and not _is_plain(value):
                    return (
                        f"its wrapper {outer.__code__.co_qualname} takes {name} from the function "
                        f"around it, a {type(value).__name__} that the key cannot see; "
                        f"make a parameter of it"
                    )
        return None

    @property
    def given(self) -> dict[str, Any]:
        """Plain values that its wrappers take from the functions around them."""
        return {
            f"{function.__code__.co_qualname}.{name}": value
            for place, function in enumerate(self._levels[:-1])
            for name, value in _cells(function)
            if value is not self._levels[place + 1]
        }


def _levels(function: FunctionType) -> Iterator[FunctionType]:
    """Yield a function and what it wraps, level by level."""
    seen: set[int] = set()
    each: Any = function
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if isinstance(each, FunctionType):
            yield each
        each = getattr(each, "__wrapped__", None)


def _cells(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
            yield name, None


def _is_plain(value: Any) -> bool:
    try:
        canonical_json(value)
    except (TypeError, ValueError):
        return False
    return True


def _place(function: Callable[..., Any]) -> tuple[str, Path]:
    """Return the name of a function's module, and its file."""
    file = Path(inspect.getfile(function)).absolute()
    module = str(getattr(function, "__globals__", {}).get("__name__", function.__module__))
    spec = getattr(sys.modules.get(module), "__spec__", None)
    if module == "__main__" and spec is not None:  # python -m package.module
        module = spec.name
    parts = tuple(module.split("."))
    place = file.parent if file.name == "__init__.py" else file.with_suffix("")
    if place.parts[-len(parts) :] != parts:  # a script, or a module loaded from a path
        return file.resolve().stem, file.resolve()
    return module, file
