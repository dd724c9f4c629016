"""Where modules lie, found as an import would find them and without importing any.

A module is *standard*, of a *library* or *own*. Of a library is what an installed distribution
lists in its RECORD; whatever else can be imported is own code, wherever it lies: beside the stage,
in another folder of the path, in an editable install, behind a link, or a lone file among the
installed packages.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, BuiltinImporter, FrozenImporter, PathFinder
from importlib.util import cache_from_source
from pathlib import Path
from sysconfig import get_path
from typing import Any, Literal

from digitflow.storage.code.installed import Distribution, distribution_of, holds_distributions

Kind = Literal["own", "library", "standard", "missing"]

_SUFFIXES = (*EXTENSION_SUFFIXES, ".py", ".pyc")
# In a wheel, too: what runs there is the project.
_OURS = __name__.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """Where a module lies.

    Attributes
    ----------
    kind
        Whose it is.
    file
        Its source, or its binary file; None where it has none.
    is_package
        Whether the file is the ``__init__`` of a package.
    search
        Folders of the modules below it.
    distribution
        The library that it belongs to.
    """

    kind: Kind
    file: Path | None = None
    is_package: bool = False
    search: tuple[str, ...] = ()
    distribution: Distribution | None = None


_MISSING, _STANDARD = Module("missing"), Module("standard")


class Modules:
    """Modules by name, as they would be found now.

    Parameters
    ----------
    path
        Folders to search; by default ``sys.path``, with the modules that are loaded and the finders
        of editable installs before it.
    known
        Modules whose file is known, such as a script's.
    """

    def __init__(
        self, path: Sequence[Path | str] | None = None, known: dict[str, Path] | None = None
    ) -> None:
        self._path = None if path is None else [str(each) for each in path]
        self._found: dict[str, Module] = {}
        for name, file in (known or {}).items():
            is_package = file.name == "__init__.py"
            search = (str(file.parent),) if is_package else ()
            self._found[name] = Module("own", file, is_package, search)

    def find(self, name: str) -> Module:
        """Return where a module lies."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._find(name)
        return found

    def _find(self, name: str) -> Module:
        if not name or ".." in name or name.startswith("."):
            return _MISSING
        if name in sys.builtin_module_names:
            return _STANDARD
        parent, _, last = name.rpartition(".")
        if parent:
            above = self.find(parent)
            if above.kind in ("standard", "missing"):
                return above
            if above.kind == "library" and above.is_package and len(above.search) == 1:
                return above
            return self._search(name, last, above.search)
        if self._path is None:
            loaded = _as_loaded(name)
            if loaded is not None:
                return loaded
        return self._search(name, last, None)

    def _search(self, name: str, last: str, folders: Sequence[str] | None) -> Module:
        spaces: list[str] = []
        for folder in self._folders(name, last, folders):
            if isinstance(folder, Module):
                return folder
            if _is_standard(folder):
                if name in sys.stdlib_module_names:
                    return _STANDARD
                continue
            found = _in_folder(name, last, folder)
            if isinstance(found, Module):
                return found
            if found is not None:
                spaces.append(found)
        if spaces:
            return Module("own", None, True, tuple(spaces))
        return _STANDARD if name in sys.stdlib_module_names else _MISSING

    def _folders(
        self, name: str, last: str, folders: Sequence[str] | None
    ) -> Iterator[str | Module]:
        if self._path is not None:
            yield from self._path if folders is None else folders
            return
        for finder in sys.meta_path:
            if finder is PathFinder:
                yield from sys.path if folders is None else folders
            elif finder not in (BuiltinImporter, FrozenImporter):
                found = _by_finder(finder, name, folders)
                if found is not None:
                    yield found


def _as_loaded(name: str) -> Module | None:
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if module is None or not isinstance(file, str) or name == "__main__":
        return None
    search = tuple(map(str, getattr(module, "__path__", ())))
    return _module(name, Path(file), Path(file).stem == "__init__", search)


def _by_finder(finder: Any, name: str, folders: Sequence[str] | None) -> Module | None:
    """Ask a finder that is not Python's own: those of editable installs are such."""
    names = (
        getattr(finder, "__module__", ""),
        getattr(finder, "__name__", ""),
        type(finder).__name__,
    )
    if not any("editable" in each.lower() or "Redirecting" in each for each in names):
        return None  # it changes how modules are loaded, not where they lie
    spec = finder.find_spec(name, folders, None)
    if spec is None:
        return None
    search = tuple(spec.submodule_search_locations or ())
    file = Path(spec.origin) if spec.has_location and spec.origin else None
    return Module("own", file, spec.submodule_search_locations is not None, search)


def _in_folder(name: str, last: str, folder: str) -> Module | str | None:
    """Return a module, or the folder of a namespace package, or None."""
    here = Path(folder or ".")
    inner = here / last
    if inner.is_dir():
        for suffix in _SUFFIXES:
            file = inner / f"__init__{suffix}"
            if file.is_file():
                return _module(name, file, True, (str(inner),))
    for suffix in _SUFFIXES:
        file = here / f"{last}{suffix}"
        if file.is_file():
            return _module(name, file, False, ())
    return str(inner) if inner.is_dir() else None


def _module(name: str, file: Path, is_package: bool, search: tuple[str, ...]) -> Module:
    if name.partition(".")[0] != _OURS:
        root = file.parents[name.count(".") + is_package] if _is_deep(file, name) else file.parent
        if _is_standard(str(root)):
            return _STANDARD
        if holds_distributions(str(root)):
            found = distribution_of(str(root), file.relative_to(root).as_posix())
            if found is not None:
                return Module("library", file, is_package, search, found)
    return Module("own", _source_of(file), is_package, search)


def _is_deep(file: Path, name: str) -> bool:
    return len(file.parents) > name.count(".") + 1


def _source_of(file: Path) -> Path:
    """Return the source beside a compiled file in ``__pycache__``, if a module names that."""
    if file.suffix == ".pyc" and file.parent.name == "__pycache__":
        source = file.parent.parent / f"{file.name.partition('.')[0]}.py"
        if source.is_file() and cache_from_source(str(source)) == str(file):
            return source
    return file


@cache
def _standard_folders() -> frozenset[str]:
    folders = {get_path("stdlib"), get_path("platstdlib")}
    folders |= {str(Path(each) / "lib-dynload") for each in [*folders]}
    return frozenset(folders | {str(Path(each).resolve()) for each in folders})


def _is_standard(folder: str) -> bool:
    return folder in _standard_folders() or (folder.endswith(".zip") and "python3" in folder)
