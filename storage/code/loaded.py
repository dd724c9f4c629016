"""What was loaded: the sources of own modules as they were when they were executed.

A file may be edited after it was imported, and while a stage runs. What counts is what runs, so
each own module's source is kept from the moment in which it is executed, which the interpreter
announces to an audit hook; of those that were loaded before the hook, from the moment in which it
was set. That the code is really the source's is checked before something is recorded.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from digitflow.storage.code.observed import alone
from digitflow.storage.code.syntax import PARSING, bound_by

# Of these nothing is kept: libraries count by version, the interpreter's own modules do not count.
_ELSEWHERE = tuple(
    {
        f"{sys.prefix}{os.sep}lib",
        f"{sys.base_prefix}{os.sep}lib",
        f"{sys.base_exec_prefix}{os.sep}lib",
    }
)
# IPython's %autoreload compiles a function that was edited alone, under the name of its file, and
# puts that into the function that there is: which is then one that was replaced, see `live.py`.
_RELOADING = "IPython.extensions."


@dataclass(frozen=True)
class Execution:
    """The latest execution of a file.

    Attributes
    ----------
    source
        The file's bytes at that moment.
    code
        What was executed; None where that was before anybody looked.
    count
        How many executions there have been.
    """

    source: bytes
    code: CodeType | None
    count: int


class Loaded:
    """Sources of the modules that this process has loaded."""

    def __init__(self) -> None:
        self.generation = 0
        self._executions: dict[str, Execution] = {}
        self._cells: dict[str, None] = {}

    def watch(self) -> None:
        """Look from now on, and at what is loaded already."""
        sys.addaudithook(self._hear)
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and file.endswith(".py") and not file.startswith(_ELSEWHERE):
                self._note(_absolute(file), None)

    def execution(self, file: Path | str) -> Execution | None:
        """Return the latest execution of a file."""
        return self._executions.get(_absolute(file))

    def notebook(self) -> bytes:
        """Return what a notebook's cells define, as a module: of each name the latest definition.

        Cells are run in any order, and again; what they do beside binding names is what a person
        looks at, and no part of a stage.
        """
        kept: list[ast.stmt] = []
        bound: set[str] = set()
        for name in reversed(self._cells):
            with PARSING:
                cell = ast.parse("".join(linecache.getlines(name)))
            for node in reversed(cell.body):
                binds = bound_by([node])
                if binds - bound:
                    kept.append(node)
                    bound |= binds
        return ast.unparse(ast.Module(kept[::-1], [])).encode()

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "exec":
            return
        code = arguments[0]
        if not isinstance(code, CodeType) or not code.co_name.startswith(("<module", "<cell")):
            return
        name = code.co_filename
        if name.startswith(_ELSEWHERE) or name.startswith("<frozen"):
            return
        frame = sys._getframe().f_back  # none at an interpreter's prompt
        by = frame.f_globals.get("__name__") if frame else None
        if isinstance(by, str) and by.startswith(_RELOADING):
            return
        with alone():  # it is not the stage that reads this
            if name.endswith(".py") and Path(name).is_file():
                self._note(_absolute(name), code)
            elif name in linecache.cache:
                self._cells.pop(name, None)
                self._cells[name] = None
                self._keep(name, b"", code)

    def _note(self, file: str, code: CodeType | None) -> None:
        try:
            source = Path(file).read_bytes()
        except OSError:  # gone since; its code cannot be told
            source = b""
        self._keep(file, source, code)

    def _keep(self, file: str, source: bytes, code: CodeType | None) -> None:
        before = self._executions.get(file)
        count = before.count + 1 if before else int(code is not None)
        self._executions[file] = Execution(source, code, count)
        self.generation += 1


def _absolute(file: Path | str) -> str:
    # Not resolved: in a checkout, digitflow/tasks is a link, and modules are named by way of it.
    return str(Path(file).absolute())


LOADED = Loaded()
LOADED.watch()


def source_of(name: str, file: Path, *, started: bool = False) -> tuple[bytes, bool]:
    """Return a module's source as it was loaded, or else as it lies on the disk.

    Parameters
    ----------
    name, file
        The module.
    started
        Whether it is loaded, be it under another name.

    Returns
    -------
    tuple of bytes and bool
        The source, and whether it is the disk's.
    """
    module = sys.modules.get(name)
    if started or (module is not None and _file_of(module) == _absolute(file)):
        execution = LOADED.execution(file)
        if execution is not None:
            return execution.source, False
    return file.read_bytes(), True


def executed(module: ModuleType) -> CodeType | None:
    """Return the code that a module's functions come from; None where that cannot be told."""
    file = _file_of(module)
    execution = None if file is None else LOADED.execution(file)
    if file is None or execution is None:
        return None
    if execution.code is not None:
        return execution.code
    try:
        return compiled(execution.source, file) if _is_plain(module) else None
    except SyntaxError:
        return None


def is_as_loaded(module: ModuleType) -> bool:
    """Tell whether the source that was kept is that of the code that was executed."""
    file = _file_of(module)
    execution = None if file is None else LOADED.execution(file)
    if file is None or execution is None or execution.code is None or not _is_plain(module):
        return True
    try:
        return compiled(execution.source, execution.code.co_filename) == execution.code
    except SyntaxError:
        return False


@lru_cache(maxsize=256)
def compiled(source: bytes, file: str) -> CodeType:
    """Compile a source as an import does.

    Raises
    ------
    SyntaxError
        If it cannot be.
    """
    with PARSING:
        code: CodeType = SourceFileLoader("compiled", file).source_to_code(source, file)
        return code


def _is_plain(module: ModuleType) -> bool:
    """Tell whether a module's code is its source's: some loaders rewrite it, as pytest's does."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return type(loader) is SourceFileLoader


def _file_of(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    return _absolute(file) if isinstance(file, str) else None
