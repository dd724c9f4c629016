"""One call of a stage in a process of its own: a request in a JSON file, the answer in another.

Run as a script, under the code of whatever commit lies on the path: of digitflow it uses only what
has been there for long. Nothing but the folder that it is given is written.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

REQUEST, ANSWER, STORE = "request.json", "answer.json", "store"

# Why something cannot be computed again, in words that can be counted.
CODE, PROJECT, READ, IGNORED, TYPED = (
    "its code is not the code that is here",
    "its stage cannot be imported here",
    "what it read has changed",
    "no record says what it ignored",
    "its parameters are in the record as text",
)


def main(folder: Path) -> None:
    """Answer the request in a folder."""
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    answer = _answer(request, folder / STORE)
    (folder / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


def _answer(request: dict[str, Any], root: Path) -> dict[str, Any]:
    from digitflow.storage.code.observed import changes
    from digitflow.storage.formats.artifacts import Artifact
    from digitflow.storage.keys import differences
    from digitflow.storage.parameters import untagged
    from digitflow.storage.store import Store

    old = request["document"]
    try:
        stage = _stage(old["definition"])
    except Exception as error:  # noqa: BLE001 - whatever a module does when it is loaded
        return _cannot(PROJECT, f"{old['definition']}: {type(error).__name__}: {error}")
    if stage is None:
        return _cannot(PROJECT, f"{old['definition'] or old['stage']} is no stage of this project")
    typed = [name for name, value in old["parameters"].items() if untagged(value) != value]
    if typed:
        return _cannot(TYPED, f"hand over {', '.join(typed)} as JSON has it, not a tuple or a date")
    inputs: dict[str, Any] = {}
    for key, artifact in request["inputs"].items():
        name, is_of_several = re.subn(r"\[\d+\]$", "", key)
        one = (Artifact(**artifact),)
        inputs[name] = (*inputs.get(name, ()), *one) if is_of_several else one[0]
    ignored = _ignored(stage)
    # In its place any text does; no record keeps what it was.
    parameters = {**dict.fromkeys(ignored, request["label"]), **old["parameters"]}
    try:
        document = stage.key(inputs, parameters).document()
    except TypeError as error:
        return _cannot(CODE, str(error))
    of_code = {name: document[name] for name in ("format", "code", "definition")}
    changed = differences(old, {**old, **of_code})
    if changed:
        return _cannot(CODE, *changed)
    changed = changes(request["observed"], stage.definition.root)
    if changed:
        return _cannot(READ, *changed)
    if stage.pinned:  # what is promised is what comes out, or the stage fails
        return {"outputs": {output: parameters[name] for output, name in stage.pinned.items()}}
    others = [name for name, kind in ignored.items() if kind not in ("str", str)]
    if others:
        return _cannot(IGNORED, f"give {', '.join(others)} a default")
    store = Store(root)
    try:
        done = stage.run(store, request["label"], inputs, parameters, run="(clean process)")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return {"failed": f"{type(error).__name__}: {error}"}
    record = store.records.load(stage.name, done.key)
    return {
        "outputs": {name: artifact.sha256 for name, artifact in done.outputs.items()},
        "changed": differences(old, document),
        "made_with": dict(getattr(record, "made_with", {})),
    }


def _cannot(why: str, *details: str) -> dict[str, Any]:
    return {"cannot": why, "details": details}


def _stage(definition: str) -> Any:
    """Return the stage of a name, or None. What is no decorated function here is not imported."""
    from digitflow.storage.code.modules import Modules
    from digitflow.tasks.engine.stage import Stage

    name, _, function = definition.partition(":")
    module = Modules().find(name)
    if module.kind != "own" or module.file is None or module.file.suffix != ".py":
        return None
    defined = ast.walk(ast.parse(module.file.read_bytes()))
    functions = [each for each in defined if isinstance(each, ast.FunctionDef)]
    if not any(each.name == function and each.decorator_list for each in functions):
        return None
    found = getattr(importlib.import_module(name), function, None)
    return found if isinstance(found, Stage) else None


def _ignored(stage: Any) -> dict[str, Any]:
    """Return the annotation of each ignored parameter that must be given."""
    known = inspect.signature(stage.function).parameters
    return {
        name: known[name].annotation
        for name in stage.ignored
        if name in stage.parameters and known[name].default is inspect.Parameter.empty
    }


if __name__ == "__main__":
    sys.path += sys.argv[2:]
    main(Path(sys.argv[1]))
