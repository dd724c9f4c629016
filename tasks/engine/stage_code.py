"""The code of a stage as it is loaded now, and whether it is still that of the key."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from digitflow.storage.code.digest import Closure, closure_of
from digitflow.storage.code.live import deviations
from digitflow.storage.code.loaded import LOADED, is_as_loaded, source_of
from digitflow.storage.code.memo import CodeMemo
from digitflow.storage.code.modules import Modules
from digitflow.storage.code.observed import Observation, changes, watch
from digitflow.storage.code.processor import processor
from digitflow.storage.code.syntax import digest_value
from digitflow.storage.digests import digest_bytes, digest_json
from digitflow.storage.errors import CodeChangedError
from digitflow.storage.records import Record
from digitflow.tasks.engine.definition import Definition

# What runs a stage cannot change what comes out of it.
_NOT_CODE = (
    "digitflow.__init__",
    "digitflow.flows",
    "digitflow.storage",
    "digitflow.tasks.engine",
    "digitflow.tasks.recomputation",
)
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_logger = logging.getLogger("digitflow")
_said: set[str] = set()

watch()


class StageCode:
    """What a function reaches, looked at again whenever something may have changed.

    Parameters
    ----------
    definition
        The function.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._latest: tuple[int, list[tuple[Path, str]], Closure] | None = None

    def closure(self, memo: CodeMemo | None = None) -> Closure:
        """Return what it reaches, as loaded or, where it is not loaded, as it lies on the disk."""
        if self._latest is not None:
            generation, on_disk, closure = self._latest
            if generation == LOADED.generation and all(
                _digest_of(file) == digest for file, digest in on_disk
            ):
                return closure
        generation = LOADED.generation
        on_disk = []
        known = self._definition.files

        def read(name: str, file: Path) -> bytes:
            if self._definition.is_interactive and name in known:
                return LOADED.notebook()
            source, is_on_disk = source_of(name, file, started=name in known)
            if is_on_disk:
                on_disk.append((file, digest_bytes(source)))
            return source

        closure = closure_of(self._definition.starts, Modules(known=known), _NOT_CODE, memo, read)
        self._latest = (generation, on_disk, closure)
        for each in closure.unfollowed:
            say_once(f"{each}: what it finds cannot be followed, so a change there is not noticed")
        return closure

    def of_key(self, closure: Closure) -> dict[str, Mapping[str, str]]:
        """Return the code as it is part of the key: with what is bound otherwise than written."""
        code = dict(closure.code)
        for path, names in deviations(closure, self._definition.functions).items():
            code[path] = {**code.get(path, {}), **names}
        if self._definition.is_interactive:
            path = closure.reached["__main__"].path
            code[path] = {**code.get(path, {}), **self._of_notebook(closure)}
        given: dict[str, Any] = self._definition.given
        if given:
            code["(wrappers)"] = {name: digest_json(value) for name, value in given.items()}
        return code

    def _of_notebook(self, closure: Closure) -> dict[str, str]:
        """Return what a notebook's names stand for now, whichever cells ran how often.

        Raises
        ------
        TypeError
            If it is nothing that could be told from another value.
        """
        names = self._definition.function.__globals__
        found = {}
        for unit in closure.reached["__main__"].units:
            for name in unit.binds:
                value = names.get(name)
                if isinstance(value, FunctionType | type | ModuleType) or hasattr(
                    value, "__wrapped__"
                ):
                    continue
                digest = digest_value(value)
                if not digest:
                    message = (
                        f"stage {self._definition.function.__name__} uses {name} of the notebook, "
                        f"a {type(value).__name__}; hand it over as an input"
                    )
                    raise TypeError(message)
                found[f"{name}, as set"] = digest
        return found

    def libraries(self, closure: Closure) -> dict[str, str]:
        """Return the versions that are part of the key, as ``DIGITFLOW_LIBRARIES`` asks."""
        if libraries_policy() != "strict":
            return {}
        return {"Python": _PYTHON, **closure.libraries}

    def processor(self, closure: Closure) -> str:
        """Return what kernels the processor is given, where they decide bytes."""
        if not closure.by_processor or "numpy" not in closure.libraries:
            return ""
        numpy = Modules().find("numpy").file
        return processor(None if numpy is None else numpy.parent)

    def observation(self, store: Path) -> Observation:
        """Return what notes what the function reads."""
        return Observation(self._definition.root, (store,))

    def add_loaded(self, observation: Observation, closure: Closure) -> None:
        """Note what the modules that it reaches read while they were loaded."""
        files = [self._definition.function.__code__.co_filename]
        for name in closure.reached:
            file = getattr(sys.modules.get(name), "__file__", None)
            files += [file] if isinstance(file, str) else []
        observation.add_loaded(dict.fromkeys(files))

    def changes(self, record: Record) -> list[str]:
        """Say what a record's computation read that is not as it was, or was made with."""
        if libraries_policy() == "warn":
            self._warn_of_libraries(record)
        return changes(record.observed, self._definition.root)

    def _warn_of_libraries(self, record: Record) -> None:
        now = {"Python": _PYTHON, **self.closure().libraries}
        for name, before in record.made_with.items():
            if name in now and now[name] != before:
                say_once(
                    f"{record.label}: made with {name} {before}, served with {now[name]}, "
                    f"since DIGITFLOW_LIBRARIES=warn"
                )

    def check(
        self,
        before: Closure,
        label: str,
        memo: CodeMemo | None = None,
        others: list[str] | None = None,
    ) -> None:
        """Refuse to go on if what ran is not what the key says.

        Parameters
        ----------
        before
            What the key says.
        label
            Name of the call.
        memo
            As for `closure`.
        others
            What of what was read has changed since.

        Raises
        ------
        CodeChangedError
            If a definition has changed since, or what was executed is not what was read.
        """
        after = self.closure(memo)
        changed = [
            f"{path} ({', '.join(_changed(before.code.get(path, {}), after.code.get(path, {})))})"
            for path in sorted({*before.code, *after.code})
            if before.code.get(path) != after.code.get(path)
        ]
        changed += [
            reached.path
            for name, reached in after.reached.items()
            if name in sys.modules and not is_as_loaded(sys.modules[name])
        ]
        if others:
            message = (
                f"{label}: what it read changed during the run: {'; '.join(others)}. Nothing was "
                f"recorded; run it again when nobody writes there"
            )
            raise CodeChangedError(message)
        if changed:
            message = (
                f"{label}: code changed during the run: {'; '.join(changed)}. Nothing was "
                f"recorded; run it again, and it is computed with the code as it is then"
            )
            raise CodeChangedError(message)


def say_once(text: str) -> None:
    """Warn of something, once in a process."""
    if text not in _said:
        _said.add(text)
        _logger.warning("%s", text)


def libraries_policy() -> str:
    """Return how versions of libraries count: ``strict``, ``warn`` or ``ignore``.

    Raises
    ------
    ValueError
        If ``DIGITFLOW_LIBRARIES`` says something else.
    """
    policy = os.environ.get("DIGITFLOW_LIBRARIES") or "strict"
    if policy not in ("strict", "warn", "ignore"):
        message = f"DIGITFLOW_LIBRARIES: expected strict, warn or ignore, found {policy!r}"
        raise ValueError(message)
    return policy


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return [name for name in names if not name.startswith("<")] or ["its order or imports"]


def _digest_of(file: Path) -> str:
    try:
        return digest_bytes(file.read_bytes())
    except OSError:
        return ""
