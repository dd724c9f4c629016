"""Somebody's own project: a module of two stages in the working directory, run in this process."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from digitflow.storage.digests import digest_bytes
from digitflow.storage.records import Record
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, compute, using

SOURCE = """
from digitflow import stage

def scaled(numbers, factor):
    return [factor * each for each in numbers]

@stage(outputs={"numbers": "json"}, ignored=("name",))
def count(*, upto, name: str):
    return {"numbers": list(range(upto))}

@stage(outputs={"numbers": "json", "total": "json"})
def scale(several, *, factor=3, scratch):
    (scratch / "left").write_text("behind")
    numbers = scaled(several[0] + several[1], factor)
    return {"numbers": numbers, "total": sum(numbers)}

def both(factor=3):
    counted = [count.submit(upto=n, name="a name")["numbers"] for n in (3, 4)]
    return scale.submit(tuple(counted), factor=factor)
"""


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write the project into a folder and go there; return the module's name."""
    name = "scaling_of_" + digest_bytes(str(folder).encode())[:12]
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    # An edit within a second of the last one would be taken for it.
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    return name


def loaded(name: str) -> ModuleType:
    """Return the module as its file is now."""
    if name in sys.modules:
        return importlib.reload(sys.modules[name])
    return importlib.import_module(name)


def run(store: Store, name: str) -> dict[str, Record]:
    """Run both stages in this process; return a record of each stage."""
    module = loaded(name)
    with using(Context(store, "first", compute)):
        module.both()
    return {each.stage: each for each in store.records.documents.readable()}


def edit(project: str, old: str, new: str) -> None:
    """Edit the module's file."""
    path = Path.cwd() / f"{project}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
