"""The key of a stage, and what makes two keys differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from digitflow.storage.code.digest import DEFINITION, FILE, IMPORTS, ORDER, Code
from digitflow.storage.code.syntax import MODULE_LEVEL
from digitflow.storage.digests import canonical_json, digest_json, short
from digitflow.storage.parameters import is_tagged, untagged

# Raise it when the meaning of a stored record or object changes: older ones then miss.
FORMAT_VERSION = 2


@dataclass(frozen=True)
class StageKey:
    """Everything that decides a stage's result.

    Attributes
    ----------
    stage
        Name of the stage.
    code
        Digests of the definitions that it is made of.
    parameters
        JSON values by name.
    inputs
        SHA-256 of each input by name.
    definition
        Where it is defined: ``module:qualified.name``.
    libraries
        Version of each library that the code uses, by name, and of Python.
    processor
        The kernels that the processor is given, where they decide bytes; else empty.
    """

    stage: str
    code: Code
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    definition: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    processor: str = ""

    def document(self) -> dict[str, Any]:
        """Return the JSON document that is digested, and kept so that a miss can be explained."""
        return {
            "format": FORMAT_VERSION,
            "stage": self.stage,
            "definition": self.definition,
            "code": {path: dict(definitions) for path, definitions in self.code.items()},
            "libraries": dict(self.libraries),
            "processor": self.processor,
            "parameters": dict(self.parameters),
            "inputs": dict(self.inputs),
        }

    def digest(self) -> str:
        """Return the cache key: the SHA-256 of the document.

        Raises
        ------
        TypeError, ValueError
            If a parameter has no JSON form or is not finite.
        """
        return digest_json(self.document())


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say part by part why the key document `new` is not `old`.

    Returns
    -------
    list of str
        Such as ``parameter epochs 20 → 30``, ``code changed: tasks/nn/layers/base.py (relu)``,
        ``input changed: training_images 440fca2b31c0… → 91b2c08a55de…``. Empty if they are equal.
    """
    parameters = [
        f"parameter {name} {_show(before)} → {_show(after)}"
        for name, before, after in _changed(_flat(old["parameters"]), _flat(new["parameters"]))
    ]
    inputs = [
        f"input changed: {name} {_show_digest(before)} → {_show_digest(after)}"
        for name, before, after in _changed(old["inputs"], new["inputs"])
    ]
    if old.get("format") != new.get("format"):
        # What the parts of another format say of the code cannot be compared.
        return [f"record format {old.get('format')} → {new.get('format')}", *parameters, *inputs]
    code = [
        f"code changed: {path} ({', '.join(_changed_definitions(before, after))})"
        for path, before, after in _changed(old["code"], new["code"])
    ]
    defined, now_defined = (each.get("definition", "") for each in (old, new))
    if defined != now_defined:
        code.append(f"defined elsewhere: {defined} → {now_defined}")
    libraries = _changed(old.get("libraries", {}), new.get("libraries", {}))
    for name, before, after in libraries:
        # One that is used no longer, or newly, is so because the code says so.
        if not code or (before is not _ABSENT and after is not _ABSENT):
            code.append(f"{name} {_show(before)} → {_show(after)}")
    before, after = (each.get("processor") or "(any)" for each in (old, new))
    if before != after:
        code.append(f"processor {before} → {after}")
    return [*parameters, *code, *inputs]


def differences_beside_code(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say as `differences` does what differs beside the code.

    Libraries that only one of the two uses are part of the edit.
    """
    before = old.get("libraries", {})
    libraries = {name: new["libraries"].get(name, before[name]) for name in before}
    return differences(old, {**new, "code": old["code"], "libraries": libraries})


def _flat(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Name the values of a group of parameters as people set them: each by its own name."""
    flat: dict[str, Any] = {}
    for name, value in parameters.items():
        is_group = isinstance(value, Mapping) and not is_tagged(value)
        flat.update(value if is_group else {name: value})
    return flat


_ABSENT = object()


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    names = [*new, *(name for name in old if name not in new)]
    pairs = [(name, old.get(name, _ABSENT), new.get(name, _ABSENT)) for name in sorted(names)]
    return [(name, before, after) for name, before, after in pairs if _differ(before, after)]


def _differ(before: Any, after: Any) -> bool:
    if before is _ABSENT or after is _ABSENT:
        return before is not after
    # As the key sees them: 1, 1.0 and True are three values there, and one to Python.
    return canonical_json(before) != canonical_json(after)


def _changed_definitions(old: Any, new: Any) -> list[str]:
    if old is _ABSENT:
        return ["new file"]
    if new is _ABSENT:
        return ["no longer used"]
    names = [name for name, _, _ in _changed(old, new)]
    # What these say follows from a definition that is named already.
    said = [name for name in names if name not in _SHOWN] or names
    return [_SHOWN.get(name, "module level" if name == MODULE_LEVEL else name) for name in said]


_SHOWN = {
    IMPORTS: "imports",
    ORDER: "order",
    FILE: "file",
    DEFINITION: "definition",
}


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "(none)"
    text = str(untagged(value))
    return text if len(text) <= 40 else text[:39] + "…"


def _show_digest(value: Any) -> str:
    return "(none)" if value is _ABSENT else short(value) + "…"
