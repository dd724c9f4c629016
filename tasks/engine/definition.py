"""Where the function of a stage is defined, and what wraps it.

A stage is known by its module and its qualified name; where a definition begins tells apart those
that share both. Values that a function takes from the function around it are not in any source, so
they are refused, at every level that `functools.wraps` leads through: all but what a wrapper
wraps, and plain values that a decorator was given, which are part of the key.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

from digitflow.storage.code.digest import Start
from digitflow.storage.code.loaded import LOADED
from digitflow.storage.parameters import canonical


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
        file = self.function.__code__.co_filename
        execution = LOADED.execution(file)
        # Which file, and which of its executions.
        self.place = (file, 0 if execution is None else execution.count)

    def __str__(self) -> str:
        """Return ``module:qualified.name``, which tells it from other stages."""
        return f"{self._places[-1][0]}:{self.function.__code__.co_qualname}"

    @cached_property
    def _places(self) -> list[tuple[str, Path]]:
        if self.is_interactive:
            return [("__main__", Path("notebook.py")) for _ in self._levels]
        return [_place(each) for each in self._levels]

    @cached_property
    def is_interactive(self) -> bool:
        """Whether it is defined in a notebook's cell."""
        file = self.function.__code__.co_filename
        return file in linecache.cache and not Path(file).is_file()

    @cached_property
    def root(self) -> Path:
        """Folder that the name of the function's module starts from."""
        if self.is_interactive:
            return Path.cwd()
        name, file = self._places[-1]
        return file.parents[name.count(".") + (file.name == "__init__.py")]

    @property
    def functions(self) -> dict[str, FunctionType]:
        """The functions of its levels, by the names of their modules."""
        return {name: each for (name, _), each in zip(self._places, self._levels, strict=True)}

    @property
    def files(self) -> dict[str, Path]:
        """The files of the modules that it starts from, which an import may not find."""
        return dict(self._places)

    @property
    def starts(self) -> list[Start]:
        """Where the code that counts starts: the function itself, then what wraps it."""
        return [
            Start(
                name,
                function.__code__.co_qualname,
                function.__code__.co_firstlineno,
                in_notebook=self.is_interactive,
            )
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

    def missing(self) -> str | None:
        """Say where its source is not."""
        file = self.function.__code__.co_filename
        if Path(file).is_file() or self.is_interactive:
            return None
        return f"its source is in no file ({file}); save it in one and import it"

    @property
    def given(self) -> dict[str, Any]:
        """Plain values that its wrappers take from the functions around them, as JSON."""
        return {
            f"{function.__code__.co_qualname}.{name}": canonical(value, name)
            for place, function in enumerate(self._levels[:-1])
            for name, value in _cells(function)
            if value is not self._levels[place + 1]
        }


def claim(stage: Any) -> None:
    """Note a stage under its identity, in the place of one that was defined there before.

    A module that is loaded again, and a notebook's cell that is run again, define their stages
    again: who holds the earlier one has the later one from then on.

    Parameters
    ----------
    stage
        A stage; it has a `definition`.

    Raises
    ------
    TypeError
        If one load of a module defines two different stages of one name.
    """
    mine: Definition = stage.definition
    earlier = _stages.setdefault(str(mine), [])
    alive = [each for each in (reference() for reference in earlier) if each is not None]
    for other in alive:
        its: Definition = other.definition
        if its.function.__code__ == mine.function.__code__:
            continue
        if its.place == mine.place:
            lines = sorted(each.function.__code__.co_firstlineno for each in (its, mine))
            message = (
                f"stage {stage.name}: there are two of {mine}, at the lines {lines[0]} and "
                f"{lines[1]} of {mine.place[0]}; give one of them another name"
            )
            raise TypeError(message)
        if its.place[0] == mine.place[0] or (its.is_interactive and mine.is_interactive):
            other.__dict__.update(stage.__dict__)
    earlier[:] = [*(weakref.ref(each) for each in alive), weakref.ref(stage)]


_stages: dict[str, list[weakref.ref[Any]]] = {}


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
        canonical(value, "")
    except TypeError:
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
