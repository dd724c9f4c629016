"""What code a stage is made of, read from its syntax and never imported.

A stage's result depends on its own module and on every project module that it imports,
directly or through others. Each is reduced to its syntax tree without docstrings and
positions, so that an edited function counts and an edited comment does not. Imports inside
functions count too. Modules that are found only by a name computed at run time, and data
files, are not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from digitflow.storage.code.memo import CodeMemo, Findings, key_of
from digitflow.storage.code.parsing import PARSING
from digitflow.storage.digests import digest_bytes

# Path of a module → its definitions → a digest of each.
Code = Mapping[str, Mapping[str, str]]

MODULE_LEVEL = "<module>"


def code_of(
    module: str,
    roots: Sequence[Path],
    excluded: Sequence[str] = (),
    memo: CodeMemo | None = None,
) -> Code:
    """Digest the definitions of a module and of all project modules that it imports.

    Parameters
    ----------
    module
        Dotted name of the module to start from.
    roots
        Folders in which project modules lie; a module found in none of them is a library. In a
        folder that packages are installed in, all but the starting module's and ours are.
    excluded
        Dotted names of modules or packages that cannot influence a result, such as
        storage and orchestration; ``package.__init__`` is the package's own module and nothing
        below it. The starting module is never excluded.
    memo
        What was found in sources that were read before.

    Returns
    -------
    Code
        For each module's path below its root, the digest of each of its functions, classes,
        methods and of what remains (`<module>`).

    Raises
    ------
    ModuleNotFoundError
        If the starting module lies in none of the folders.
    SyntaxError
        If a module cannot be parsed.
    """
    ours = frozenset(name.partition(".")[0] for name in (module, __name__))
    start = _locate(module, roots, ours)
    if start is None:
        places = ", ".join(str(root) for root in roots)
        error = f"expected the source of module {module!r} under {places}, found none"
        raise ModuleNotFoundError(error)
    found: dict[str, Mapping[str, str]] = {}
    pending = {*_with_parents(module)}
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or (name != module and _is_excluded(name, excluded)):
            continue
        seen.add(name)
        location = _locate(name, roots, ours)
        if location is None:
            continue
        root, path = location
        definitions, imports = _recall(path, name, memo)
        if definitions:
            found[path.relative_to(root).as_posix()] = definitions
        pending.update(imports)
    return found


def _is_excluded(name: str, excluded: Sequence[str]) -> bool:
    if f"{name}.__init__" in excluded:
        return True
    return any(name == other or name.startswith(other + ".") for other in excluded)


def _locate(name: str, roots: Sequence[Path], ours: frozenset[str]) -> tuple[Path, Path] | None:
    if not name:  # what `from . import x` outside of any package comes to
        return None
    for root in roots:
        if name.partition(".")[0] not in ours and _holds_libraries(root):
            continue
        stem = root.joinpath(*name.split("."))
        for path in (stem / "__init__.py", stem.with_name(stem.name + ".py")):
            if path.is_file():
                return root, path
    return None


@lru_cache(maxsize=64)
def _holds_libraries(root: Path) -> bool:
    """Tell whether packages are installed in this folder."""
    return any(root.glob("*.dist-info"))


def _recall(path: Path, name: str, memo: CodeMemo | None) -> Findings:
    source, is_package = path.read_bytes(), path.name == "__init__.py"
    if memo is None:
        return _read(source, name, is_package)
    key = key_of(source, name, is_package)
    found = memo.get(key)
    if found is None:
        found = _read(source, name, is_package)
        memo.put(key, found)
    return found


@lru_cache(maxsize=512)
def _read(source: bytes, name: str, is_package: bool) -> Findings:
    with PARSING:
        tree = ast.parse(source)
    package = name if is_package else name.rpartition(".")[0]
    imports = frozenset(_imports(tree, package))
    _strip_docstrings(tree)
    parts: dict[str, list[str]] = {}
    for node in tree.body:
        for definition, piece in _definitions(node):
            parts.setdefault(definition, []).append(ast.dump(piece))
    return {name: digest_bytes("\n".join(dumps).encode()) for name, dumps in parts.items()}, imports


def _definitions(node: ast.stmt) -> Iterator[tuple[str, ast.stmt]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name, node
    elif isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        for method in methods:
            yield f"{node.name}.{method.name}", method
        # What is left is the class itself: bases, decorators, fields.
        node.body = [part for part in node.body if not isinstance(part, ast.FunctionDef)]
        yield node.name, node
    else:
        yield MODULE_LEVEL, node


def _strip_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del node.body[0]


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from _with_parents(base)
            # `from package import module` and `from module import name` look alike here;
            # a name that is no module is simply not found.
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _with_parents(name: str) -> Iterator[str]:
    """Yield a module and the packages whose `__init__` runs before it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])
