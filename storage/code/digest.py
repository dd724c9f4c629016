"""What code a stage is made of: the definitions that it reaches, read from their syntax.

It starts at the stage's function and follows the names that are used, through functions, classes,
constants and imports, into every own module (`digitflow.storage.code.modules`); imports inside
functions, too. A module that is loaded on the way also counts with what its top does to others:
registrations, settings, decorators of unknown effect. Where names cannot tell what is used
(`globals()`, ``from x import *``, a module handed on as a value), all of the module counts. Nothing
is imported, and no code runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from digitflow.storage.code.memo import CodeMemo, key_of
from digitflow.storage.code.modules import Module, Modules
from digitflow.storage.code.syntax import (
    BY_ITS_BASES,
    EFFECT,
    EVERYTHING,
    READS_ANNOTATIONS,
    READS_DOCSTRINGS,
    READS_SOURCE,
    REGISTERS,
    WHOLE_MODULE,
    Binding,
    Summary,
    Unit,
    read,
)
from digitflow.storage.digests import digest_bytes, digest_json

# Path of a module → its definitions → a digest of each.
Code = Mapping[str, Mapping[str, str]]

_BINARY = (".so", ".pyd", ".pyc")
IMPORTS, ORDER, FILE, DEFINITION = "<imports>", "<order>", "<file>", "<definition>"


@dataclass(frozen=True)
class Closure:
    """What a stage reaches.

    Attributes
    ----------
    code
        For each own module, the digest of each function, class, method and constant that counts.
    libraries
        Name → version of each installed distribution that it uses.
    unfollowed
        What it does to find code that no reading can follow, each with where it does it.
    by_processor
        Whether it computes what gives other bytes on another processor.
    sources
        Name → digest of the source of every own module that was read.
    reached
        What of each own module counts.
    """

    code: Code
    libraries: Mapping[str, str]
    unfollowed: tuple[str, ...]
    by_processor: bool
    sources: Mapping[str, str]
    reached: Mapping[str, Reached] = field(default_factory=dict, compare=False, repr=False)


class Reached(NamedTuple):
    """What of an own module counts."""

    path: str
    units: tuple[Unit, ...]
    bindings: tuple[Binding, ...]
    once: frozenset[str]  # names that only one of these binds


@dataclass(frozen=True)
class Start:
    """The function that a stage is made of.

    Attributes
    ----------
    module
        Dotted name of its module.
    name
        Its qualified name; empty for all of the module.
    line
        Where its definition, decorators included, begins.
    in_notebook
        Whether its module is a notebook's cells: of them only what is used counts, and not what
        else they do on the way.
    """

    module: str
    name: str = ""
    line: int = 0
    in_notebook: bool = False


SourceOf = Callable[[str, Path], bytes]


def from_disk(name: str, file: Path) -> bytes:
    """Return a module's source as it lies on the disk."""
    return file.read_bytes()


def closure_of(
    starts: Sequence[Start],
    modules: Modules,
    excluded: Sequence[str] = (),
    memo: CodeMemo | None = None,
    source_of: SourceOf = from_disk,
) -> Closure:
    """Digest the definitions that functions reach.

    Parameters
    ----------
    starts
        Where it starts: at the stage's function, and at what wraps it.
    modules
        Where modules lie.
    excluded
        Dotted names of modules or packages that cannot influence a result, such as
        storage and orchestration; ``package.__init__`` is the package's own module and nothing
        below it. The starting modules are never excluded.
    memo
        What was found in sources that were read before.
    source_of
        Returns the source of a module.

    Raises
    ------
    ModuleNotFoundError
        If a starting module is not found, or has no source.
    SyntaxError
        If a module cannot be parsed.
    """
    return _Walk(starts, modules, excluded, memo, source_of).closure()


class _Walk:
    def __init__(
        self,
        starts: Sequence[Start],
        modules: Modules,
        excluded: Sequence[str],
        memo: CodeMemo | None,
        source_of: SourceOf,
    ) -> None:
        self._starts = starts
        self._modules = modules
        self._excluded = excluded
        self._memo = memo
        self._source_of = source_of
        self._summaries: dict[str, Summary | None] = {}
        self._sources: dict[str, str] = {}
        self._binaries: dict[str, str] = {}
        self._names: dict[str, set[str]] = {}
        self._reached: dict[str, None] = {}
        self._included: dict[str, set[int]] = {}
        self._acting: set[str] = set()
        self._not_made: set[tuple[str, str]] = set()
        self._annotated: set[tuple[str, int]] = set()
        self._bindings: dict[str, set[Binding]] = {}
        self._whole: set[str] = set()
        self._libraries: dict[str, str] = {}
        self._unfollowed: dict[str, None] = {}
        self._flags: set[str] = set()
        self._by_processor = False
        self._asked: set[tuple[str, str, bool]] = set()
        self._todo: list[tuple[Callable[..., None], tuple[object, ...]]] = []

    def closure(self) -> Closure:
        for start in self._starts:
            if self._summary(start.module) is None:
                error = f"expected the source of module {start.module!r}, found none"
                raise ModuleNotFoundError(error)
            for name in _with_parents(start.module):
                self._later(self._reach, name)
            if start.name:
                self._later(self._chain, start.module, start.name.partition(".")[0], False)
            else:
                self._later(self._take_whole, start.module)
        self._work()
        code = {self._path(name): parts for name in self._reached if (parts := self._parts(name))}
        for start in self._starts:
            path = self._path(start.module)
            code[path] = {**code.get(path, {}), **self._definition(start)}
        return Closure(
            code,
            dict(sorted(self._libraries.items())),
            tuple(sorted(self._unfollowed)),
            self._by_processor,
            self._sources,
            {name: self._what_counts(name) for name in self._reached if self._summary(name)},
        )

    def _what_counts(self, name: str) -> Reached:
        summary = self._summary(name)
        places = sorted(self._included.get(name, ()))
        units = tuple(summary.units[each] for each in places) if summary is not None else ()
        bindings = tuple(self._bindings.get(name, ()))
        counted = self._times_bound(name)
        once = frozenset(each for each, count in counted.items() if count == 1)
        return Reached(self._path(name), units, bindings, once)

    def _times_bound(self, name: str) -> Counter[str]:
        """Return how often each name is bound by what counts in a module."""
        counted = Counter(each.name for each in self._bindings.get(name, ()))
        summary = self._summary(name)
        if summary is not None:
            for place in self._included.get(name, ()):
                counted.update(summary.units[place].binds)
        return counted

    def _definition(self, start: Start) -> dict[str, str]:
        """Return the digest of a starting function's own definition, of several of one name."""
        summary = self._summary(start.module)
        found = None if summary is None else summary.functions.get(f"{start.name}:{start.line}")
        return {} if found is None else {DEFINITION: digest_json([start.name, found])}

    def _work(self) -> None:
        expanded = False
        while self._todo or (READS_ANNOTATIONS in self._flags and not expanded):
            if not self._todo:
                expanded = True
                for name, places in self._included.items():
                    for place in places:
                        self._follow_annotations(name, place)
                continue
            step, arguments = self._todo.pop()
            step(*arguments)

    def _later(self, step: Callable[..., None], *arguments: object) -> None:
        self._todo.append((step, arguments))

    # What lies where ----------------------------------------------------------------------------

    def _is_excluded(self, name: str) -> bool:
        if any(name == start.module for start in self._starts):
            return False
        if f"{name}.__init__" in self._excluded:
            return True
        return any(name == other or name.startswith(other + ".") for other in self._excluded)

    def _module(self, name: str) -> Module:
        return self._modules.find(name)

    def _summary(self, name: str) -> Summary | None:
        """Return what an own module consists of; None if it is another's, or has no source."""
        if name not in self._summaries:
            self._summaries[name] = self._read(name)
        return self._summaries[name]

    def _read(self, name: str) -> Summary | None:
        module = self._module(name)
        if module.kind != "own" or module.file is None or self._is_excluded(name):
            return None
        if module.file.suffix in _BINARY:
            self._sources[name] = self._binaries[name] = digest_bytes(module.file.read_bytes())
            if module.file.suffix == ".pyc":
                self._unfollowed[f"{name} has no source, only bytecode"] = None
            return None
        source = self._source_of(name, module.file)
        self._sources[name] = digest_bytes(source)
        if self._memo is None:
            return _read(source, name, module.is_package)
        key = key_of(source, name, module.is_package)
        found = self._memo.get(key)
        if found is None:
            found = _read(source, name, module.is_package)
            self._memo.put(key, found)
        return found

    def _path(self, name: str) -> str:
        module = self._module(name)
        file = Path(name.replace(".", "/"))
        if module.is_package:
            file = file / "__init__"
        suffix = "" if module.file is None else "".join(module.file.suffixes[-1:])
        return f"{file.as_posix()}{suffix}"

    # What counts --------------------------------------------------------------------------------

    def _reach(self, name: str) -> None:
        """Count what loading a module does."""
        if name in self._reached or not name:
            return
        self._reached[name] = None
        summary = self._summary(name)
        if summary is None:
            return
        used = {
            each.partition(".")[0]
            for unit in summary.units
            for each in (*unit.uses, *unit.annotation_uses)
        }
        for binding in summary.bindings:
            if binding.name not in used and binding.name != "*":
                # It is imported for what loading it does.
                self._note_library(binding.module)
        for module, taken, _ in summary.reaches:
            self._later(self._load, module, taken)
        if self._in_notebook(name):
            return
        for place, unit in enumerate(summary.units):
            if self._acts(name, unit):
                self._acting.add(name)
                self._later(self._take, name, place, False)
        if EVERYTHING in self._flags:
            self._later(self._take_whole, name)

    def _in_notebook(self, name: str) -> bool:
        """Whether a module is the notebook's cells, of which only what is used counts."""
        return any(start.module == name and start.in_notebook for start in self._starts)

    def _load(self, module: str, taken: str) -> None:
        """Count what an import loads: the packages above, and what is taken if it is a module."""
        for each in _with_parents(module):
            self._later(self._reach, each)
        if taken and not self._binds(module, taken):
            below = f"{module}.{taken}"
            if self._module(module).search and self._module(below).kind == "own":
                self._later(self._reach, below)

    def _binds(self, module: str, name: str) -> bool:
        names = self._names.get(module)
        if names is None:
            summary = self._summary(module)
            names = set()
            if summary is not None:
                names = {each for unit in summary.units for each in unit.binds}
                # `from . import helper` in a package binds what lies below it.
                names |= {
                    each.name
                    for each in summary.bindings
                    if (each.module, each.attribute) != (module, each.name)
                }
            self._names[module] = names
        return name in names

    def _acts(self, module: str, unit: Unit) -> bool:
        """Tell whether loading a statement may change more than what it binds."""
        if unit.effect == EFFECT:
            return True
        if unit.effect == BY_ITS_BASES and self._registers(module, unit, set()):
            return True
        return any(self._is_made(module, each) for each in unit.operands)

    def _is_made(self, module: str, chain: str) -> bool:
        """Tell whether a name stands for what own code made, whose operators may do anything."""
        visited: set[tuple[str, str]] = set()
        pending = [(module, chain)]
        while pending:
            asked = pending.pop()
            if asked in self._not_made:
                continue
            for where, unit in self._classes(*asked, visited):
                if unit is None:
                    if self._summary(where) is not None:  # it may be of what all is imported from
                        return True
                elif unit.effect == EFFECT:
                    return True
                else:
                    pending += [(where, each) for each in unit.operands]
        self._not_made |= visited
        return False

    def _registers(self, module: str, unit: Unit, seen: set[tuple[str, str]]) -> bool:
        """Tell whether making a subclass may do something elsewhere."""
        for base in unit.bases:
            for _, found in self._classes(module, base, seen):
                if found is None or REGISTERS in found.flags:
                    return True
        return False

    def _classes(
        self, module: str, chain: str, seen: set[tuple[str, str]]
    ) -> Iterator[tuple[str, Unit | None]]:
        """Yield the classes that a base may be, and their bases; None for one of a library."""
        pending = [(module, chain)]
        while pending:
            where, what = pending.pop()
            if (where, what) in seen:
                continue
            seen.add((where, what))
            summary = self._summary(where)
            if summary is None:
                kind = self._module(where).kind
                top = where.partition(".")[0]
                if kind == "library" and top not in ("pydantic", "typing_extensions"):
                    yield where, None
                continue
            head, _, rest = what.partition(".")
            known = False
            for unit in summary.units:
                if head in unit.binds:
                    known = True
                    yield where, unit
                    pending += [(where, each) for each in unit.bases]
            for binding in summary.bindings:
                if binding.name == head:
                    known = True
                    name = ".".join(filter(None, [binding.attribute, rest]))
                    pending.append((binding.module, name))
                    while "." in name:  # a module of a package
                        part, _, name = name.partition(".")
                        pending.append((f"{pending[-1][0]}.{part}", name))
            if not known and any(each.name == "*" for each in summary.bindings):
                yield where, None

    def _take(self, name: str, place: int, annotated: bool) -> None:
        """Count a statement and what it uses."""
        included = self._included.setdefault(name, set())
        marked = annotated and (name, place) not in self._annotated
        if place in included and not marked:
            return
        summary = self._summary(name)
        if summary is None:
            return
        unit = summary.units[place]
        if annotated or unit.annotated:
            self._annotated.add((name, place))
            self._follow_annotations(name, place)
        for base in unit.bases:
            # What a class looks at are its bases' annotations, too.
            self._later(self._chain, name, base, True)
        if place in included:
            return
        included.add(place)
        self._by_processor |= unit.by_processor
        self._raise_flags(name, unit)
        for chain in unit.uses:
            self._later(self._chain, name, chain, False)
        for each in unit.imports:
            self._import(each)
        for each in unit.unfollowed:
            self._unfollowed[f"{self._path(name)} ({unit.label}): {each}"] = None

    def _follow_annotations(self, name: str, place: int) -> None:
        summary = self._summary(name)
        if summary is not None:
            for chain in summary.units[place].annotation_uses:
                self._later(self._chain, name, chain, False)

    def _raise_flags(self, name: str, unit: Unit) -> None:
        if WHOLE_MODULE in unit.flags:
            self._later(self._take_whole, name)
        if EVERYTHING in unit.flags and EVERYTHING not in self._flags:
            for each in self._reached:
                if each == name or not self._in_notebook(each):
                    self._later(self._take_whole, each)
        self._flags |= set(unit.flags)

    def _import(self, text: str) -> None:
        """Follow an import inside a function: ``module?taken``, or use of it ``module:chain``."""
        if "?" in text:
            module, _, taken = text.partition("?")
            self._load(module, taken)
            self._note_library(module)
            return
        module, _, chain = text.partition(":")
        self._load(module, "")
        self._later(self._inside, module, chain, False)

    def _take_whole(self, name: str) -> None:
        """Count all of a module."""
        if name in self._whole:
            return
        self._whole.add(name)
        self._later(self._reach, name)
        summary = self._summary(name)
        if summary is None:
            return
        for place in range(len(summary.units)):
            self._later(self._take, name, place, False)
        for binding in summary.bindings:
            self._follow(name, binding, "", False)

    def _chain(self, name: str, chain: str, annotated: bool) -> None:
        """Follow a name that is used in a module, with the attributes asked of it."""
        if (name, chain, annotated) in self._asked:
            return
        self._asked.add((name, chain, annotated))
        summary = self._summary(name)
        if summary is None:
            return
        head, _, rest = chain.partition(".")
        known = False
        for place, unit in enumerate(summary.units):
            if head in unit.binds:
                known = True
                self._later(self._take, name, place, annotated)
        for binding in summary.bindings:
            if binding.name == head:
                known = True
                self._follow(name, binding, rest, annotated)
        if not known:
            for binding in summary.bindings:
                if binding.name == "*":
                    self._follow(name, binding, head, annotated)

    def _follow(self, name: str, binding: Binding, rest: str, annotated: bool) -> None:
        self._bindings.setdefault(name, set()).add(binding)
        if binding.name == "*":
            if rest:
                self._later(self._chain, binding.module, "__all__", annotated)
                self._later(self._inside, binding.module, rest, annotated)
            else:
                self._later(self._take_whole, binding.module)
            self._note_library(binding.module)
            return
        chain = ".".join(filter(None, [binding.attribute, rest]))
        self._later(self._inside, binding.module, chain, annotated)

    def _inside(self, name: str, chain: str, annotated: bool) -> None:
        """Follow a chain of attributes of a module."""
        self._note_library(name)
        if self._module(name).kind != "own" or self._is_excluded(name):
            if self._module(name).kind == "own" and chain:
                # A package that does not count itself may hold modules that do.
                self._below(name, chain, annotated)
            return
        self._later(self._reach, name)
        if not chain:
            self._later(self._take_whole, name)
            return
        head = chain.partition(".")[0]
        summary = self._summary(name)
        if self._binds(name, head):
            self._later(self._chain, name, chain, annotated)
            return
        if self._below(name, chain, annotated) or summary is None:
            return
        if head.startswith("__") and head.endswith("__") and head != "__dict__":
            return
        if self._binds(name, "__getattr__"):
            self._unfollowed[f"{self._path(name)}: {head}, by its __getattr__"] = None
        stars = [each for each in summary.bindings if each.name == "*"]
        for binding in stars:
            self._follow(name, binding, chain, annotated)
        if stars:
            return
        # It may be set by anything that the module does.
        self._later(self._take_whole, name)

    def _below(self, name: str, chain: str, annotated: bool) -> bool:
        """Follow a chain into a module below; False if there is none."""
        head, _, rest = chain.partition(".")
        below = f"{name}.{head}"
        module = self._module(below)
        if not self._module(name).search or module.kind in ("missing", "standard"):
            return False
        self._later(self._inside, below, rest, annotated)
        return True

    def _note_library(self, name: str) -> None:
        found = self._module(name).distribution
        if found is not None:
            self._libraries[found.name] = found.version

    # What it comes to ---------------------------------------------------------------------------

    def _parts(self, name: str) -> dict[str, str]:
        """Return the digests of what counts in a module."""
        if name in self._binaries:
            return {FILE: self._binaries[name]}
        summary = self._summary(name)
        if summary is None:
            return {}
        parts: dict[str, list[str]] = {}
        for place in sorted(self._included.get(name, ())):
            unit = summary.units[place]
            for label, digest in unit.parts.items():
                parts.setdefault(label, []).append(digest)
            if READS_DOCSTRINGS in self._flags:
                parts[unit.label].append(unit.docstrings)
            if (name, place) in self._annotated or READS_ANNOTATIONS in self._flags:
                parts[unit.label].append(unit.annotations)
        found = {
            label: each[0] if len(each) == 1 else digest_json(each) for label, each in parts.items()
        }
        if READS_SOURCE in self._flags:
            found[FILE] = self._sources[name]
        bound = self._bindings.get(name, set())
        if bound:
            texts = sorted({f"{each.name}={each.module}:{each.attribute}" for each in bound})
            found[IMPORTS] = digest_json(texts)
        order = self._order(name, summary)
        if len(order) > 1:
            found[ORDER] = digest_json(order)
        return found

    def _order(self, name: str, summary: Summary) -> list[str]:
        """Return what counts in a module in the order in which it happens."""
        included = self._included.get(name, set())
        bound = self._bindings.get(name, set())
        counted = self._times_bound(name)
        order: list[str] = []
        for place in range(len(summary.units) + 1):
            for module, taken, before in summary.reaches:
                if before == place:
                    loaded = [module, f"{module}.{taken}"] if taken else [module]
                    order += [f"import {each}" for each in loaded if each in self._effective]
            order += [
                f"{each.name} = {each.module}:{each.attribute}"
                for each in summary.bindings
                if each.place == place and each in bound and counted[each.name] > 1
            ]
            if place in included:
                order.append(summary.units[place].label)
        return order

    @cached_property
    def _effective(self) -> frozenset[str]:
        """Return the modules whose loading does something, by themselves or by what they load."""
        loads: dict[str, set[str]] = {}
        found = set()
        for name in self._reached:
            summary = self._summary(name)
            if summary is None:
                continue
            loads[name] = {
                each
                for module, taken, _ in summary.reaches
                for each in (*_with_parents(module), f"{module}.{taken}")
            }
            if name in self._acting:
                found.add(name)
        grown = True
        while grown:
            more = {name for name, each in loads.items() if name not in found and each & found}
            found |= more
            grown = bool(more)
        return frozenset(found)


@lru_cache(maxsize=512)
def _read(source: bytes, name: str, is_package: bool) -> Summary:
    return read(source, name, is_package)


def _with_parents(name: str) -> list[str]:
    """Return a module and the packages whose `__init__` runs before it."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
