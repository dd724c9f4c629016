"""What an edit makes run again, and what it leaves stale: a small pipeline, edited in many ways.

``python benchmarks/staleness.py`` runs a pipeline of three stages, copies it with its store, edits
the copy, runs it again, and compares what is served with what the edited code computes without a
cache: a value that differs from that is a *stale hit*. Each run is a process of its own, forked
from one that has loaded digitflow and NumPy and nothing of the pipeline.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy  # noqa: F401 - once, before all forks

from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, compute, using
from digitflow.tasks.nn import blas  # noqa: F401

FILES = {
    "steps.py": '''
"""Three stages."""
import os
from pathlib import Path

import library
import helpers
from helpers import OFFSET
from helpers import scale
from registry import STEPS
import plugins
from digitflow import stage

FACTOR = 3  # times


@stage(outputs={"numbers": "json"})
def load(*, skip: int = 0):
    """Read the numbers."""
    text = (Path(__file__).parent / "numbers.txt").read_text()
    return {"numbers": [int(each) for each in text.split()][skip:]}


@stage(outputs={"numbers": "json"})
def clean(numbers, *, limit: int = 100):
    """Clean them."""
    from late import clip

    return {"numbers": [scale(clip(each, limit)) * FACTOR for each in numbers]}


@stage(outputs={"total": "json"}, tags=("sums",))
def total(numbers):
    """Add them up."""
    # in the order of the steps
    for step in STEPS:
        numbers = [step(each) for each in numbers]
    mode = os.environ.get("MODE", "plain")
    return {"total": [sum(numbers) + OFFSET, library.name(), mode, helpers.Shape().area()]}


@stage(outputs={"x": "json"})
def unused_stage(*, n: int = 1):
    return {"x": n}
''',
    "helpers.py": '''
"""Helpers."""
import math

SIDE = 2
OFFSET = 10


def scale(x, by=SIDE):
    """Scale a number."""
    return x * by


def unused(x):
    return x


class Shape:
    """A shape."""

    side = 4

    def area(self):
        return self.side**2

    def twice(self):
        return 2 * self.area()
''',
    "registry.py": """
STEPS = []


def register(function):
    STEPS.append(function)
    return function
""",
    "plugins.py": """
from registry import register


@register
def add_one(x):
    return x + 1


@register
def double(x):
    return 2 * x
""",
    "late.py": """
def clip(x, limit):
    return min(x, limit)
""",
    "numbers.txt": "1 2 3 400",
    "site/library.py": "def name():\n    return 'library 1.0'\n",
    "site/library-1.0.dist-info/RECORD": "library.py,,\nlibrary-1.0.dist-info/RECORD,,\n",
    "requirements.txt": "library==1.0\n",
}


class Edit(NamedTuple):
    """A way to edit the pipeline."""

    name: str
    apply: Callable[[Path], Any]


def replace(file: str, old: str, new: str) -> Callable[[Path], Any]:
    """Replace text in a file, or in a script of the folder of its name, as some peers have it."""

    def apply(project: Path) -> None:
        path = project / file
        paths = [path] if path.exists() else sorted(path.with_suffix("").glob("*.py"))
        found = [each for each in paths if old in each.read_text()]
        if len(found) != 1 or found[0].read_text().count(old) != 1:
            message = f"{file} must have {old!r} once"
            raise LookupError(message)
        found[0].write_text(found[0].read_text().replace(old, new))

    return apply


def write(file: str, text: str) -> Callable[[Path], Any]:
    return lambda project: (project / file).write_text(text)


def both(*edits: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda project: [edit(project) for edit in edits]


def setting(name: str, value: str) -> Callable[[Path], Any]:
    return write("environment.json", json.dumps({name: value}))


def upgrade(project: Path) -> None:
    (project / "site/library.py").write_text("def name():\n    return 'library 2.0'\n")
    described = project / "site/library-1.0.dist-info"
    described.rename(described.with_name("library-2.0.dist-info"))
    (project / "requirements.txt").write_text("library==2.0\n")


ADD = "@register\ndef add_one(x):\n    return x + 1\n\n\n"
DOUBLE = "@register\ndef double(x):\n    return 2 * x\n"

EDITS = [
    # What changes a value.
    Edit("the stage's body", replace("steps.py", "sum(numbers) +", "-sum(numbers) +")),
    Edit("a default of a stage", replace("steps.py", "limit: int = 100", "limit: int = 2")),
    Edit("a constant of the module", replace("steps.py", "FACTOR = 3", "FACTOR = 4")),
    Edit("a constant that is imported", replace("helpers.py", "OFFSET = 10", "OFFSET = 11")),
    Edit("a constant that is a default", replace("helpers.py", "SIDE = 2", "SIDE = 3")),
    Edit("a helper", replace("helpers.py", "return x * by", "return x + by")),
    Edit("a helper's default", replace("helpers.py", "by=SIDE", "by=7")),
    Edit("a helper that is imported late", replace("late.py", "min(x, limit)", "max(x, limit)")),
    Edit("a method", replace("helpers.py", "self.side**2", "self.side**3")),
    Edit("an attribute of a class", replace("helpers.py", "side = 4", "side = 5")),
    Edit("a decorator", replace("helpers.py", "def scale", "import functools\ndef neg(f):\n"
         "    return functools.wraps(f)(lambda *a: -f(*a))\n\n@neg\ndef scale")),
    Edit("functions that register, swapped", replace("plugins.py", ADD + DOUBLE,
         DOUBLE + "\n\n" + ADD)),
    Edit("one more function that registers", replace("plugins.py", DOUBLE, DOUBLE +
         "\n\n@register\ndef three(x):\n    return x + 3\n")),
    Edit("how functions register", replace("registry.py", "STEPS.append(function)",
         "STEPS.insert(0, function)")),
    Edit("a module that patches another", replace("plugins.py", "from registry",
         "import helpers\nhelpers.Shape.side = 9\nfrom registry")),
    Edit("a definition below an import of its name", replace("steps.py", "FACTOR = 3",
         "def scale(x):\n    return 0\n\n\nFACTOR = 3")),
    Edit("an import below a definition of its name", replace("helpers.py", "class Shape",
         "from late import clip\n\n\ndef scale(x):\n    return clip(x, 1)\n\n\nclass Shape")),
    Edit("a constant moved above its use as a default", replace("helpers.py", "def scale",
         "SIDE = 5\n\n\ndef scale")),
    Edit("another function under the name", replace("steps.py", "from helpers import scale",
         "from helpers import unused as scale")),
    Edit("renamed, and another put in its place", both(
         replace("helpers.py", "def unused", "def scale(x):\n    return 1\n\n\ndef unused"),
         replace("helpers.py", "def scale(x, by=SIDE)", "def old_scale(x, by=SIDE)"))),
    Edit("a global that a function sets", replace("helpers.py", "def scale(x, by=SIDE):",
         "def set_it():\n    global OFFSET\n    OFFSET = 12\n\n\nset_it()\n\n\n"
         "def scale(x, by=SIDE):")),
    Edit("`import *` in a helper", both(write("stars.py", "def scale(x):\n    return 5\n"),
         replace("helpers.py", "class Shape", "from stars import *\n\n\nclass Shape"))),
    Edit("a module that becomes a package", lambda project: (
         (project / "late").mkdir(), (project / "late.py").unlink(),
         (project / "late/__init__.py").write_text("def clip(x, limit):\n    return 0\n"))),
    Edit("a module that hides another", both(lambda project: (project / "first").mkdir(),
         write("first/late.py", "def clip(x, limit):\n    return 1\n"))),
    Edit("a data file", write("numbers.txt", "5 6 7")),
    Edit("an environment variable", setting("MODE", "fancy")),
    Edit("a library's version", upgrade),
    Edit("a statement at the top", replace("steps.py", "import plugins\n",
         "import plugins\nSTEPS.clear()\n")),
    Edit("a base class", both(replace("helpers.py", "    side = 4\n", ""), replace("helpers.py",
         "class Shape:", "class Base:\n    side = 6\n\n\nclass Shape(Base):"))),
    Edit("globals()", replace("steps.py", "* FACTOR for", "* globals()['FACTOR'] * 2 for")),
    # What changes nothing.
    Edit("a comment", replace("steps.py", "# in the order of the steps", "# step by step")),
    Edit("a docstring", replace("steps.py", '"""Clean them."""', '"""Clean all of them."""')),
    Edit("a docstring of a module", replace("helpers.py", '"""Helpers."""', "")),
    Edit("a docstring of an attribute", replace("helpers.py", "side = 4",
         'side = 4\n    """Length."""')),
    Edit("layout", replace("helpers.py", "return x * by", "return (\n        x * by\n    )")),
    Edit("annotations", replace("helpers.py", "def scale(x, by=SIDE)",
         "def scale(x: int, by: int = SIDE) -> int")),
    Edit("an annotated constant", replace("helpers.py", "OFFSET = 10", "OFFSET: int = 10")),
    Edit("the order of imports", replace("steps.py", "import os\nfrom pathlib import Path",
         "from pathlib import Path\nimport os")),
    Edit("an import that is not used", replace("helpers.py", "import math",
         "import math\nimport json")),
    Edit("an import for type checking", replace("helpers.py", "import math",
         "import math\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import late")),
    Edit("a helper that is not used", replace("helpers.py", "def unused(x):\n    return x",
         "def unused(x):\n    return -x")),
    Edit("another stage in the file", replace("steps.py", '{"x": n}', '{"x": -n}')),
    Edit("tags of a stage", replace("steps.py", 'tags=("sums",)', 'tags=("sums", "all")')),
    Edit("a legacy prefix", replace("steps.py", '"plain"', 'u"plain"')),
    Edit("the main block", replace("steps.py", '    return {"x": n}\n',
         '    return {"x": n}\n\n\nif __name__ == "__main__":\n    print(load(skip=1))\n')),
    Edit("moved to another folder", lambda project: project),
    Edit("a variable that nobody reads", setting("OTHER", "1")),
]  # fmt: skip


def run_pipeline(project: Path, store: Path) -> dict[str, Any]:
    """Run the pipeline with its store, and again without: for each stage, what came out."""
    os.chdir(project)
    environment = project / "environment.json"
    if environment.exists():
        os.environ.update(json.loads(environment.read_text()))
    sys.path[:0] = [str(project / "first"), str(project), str(project / "site")]
    sys.dont_write_bytecode = True
    import steps

    with using(Context(Store(store), "run", compute)):
        loaded = steps.load.submit().result()
        cleaned = steps.clean.submit(_ref(loaded, "numbers")).result()
        added = steps.total.submit(_ref(cleaned, "numbers")).result()
        served = {
            "load": (loaded.cached, loaded.reasons, loaded.read("numbers")),
            "clean": (cleaned.cached, cleaned.reasons, cleaned.read("numbers")),
            "total": (added.cached, added.reasons, added.read("total")),
        }
    numbers = steps.load()["numbers"]
    clean = steps.clean(numbers)["numbers"]
    truth = {"load": numbers, "clean": clean, "total": steps.total(clean)["total"]}
    return {
        name: {"cached": cached, "reasons": reasons, "value": value, "truth": truth[name]}
        for name, (cached, reasons, value) in served.items()
    }


def _ref(result: Any, output: str) -> Any:
    from digitflow.tasks.engine.call import Ref

    return Ref(result, output)


def in_a_process(project: Path, store: Path) -> dict[str, Any]:
    """Run the pipeline in a process that has loaded nothing of it."""
    answer = store.with_name("answer.json")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answer.write_text(json.dumps(run_pipeline(project, store)))
            status = 0
        finally:  # nothing of the parent's may run here
            if status:
                traceback.print_exc()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        message = f"the pipeline failed in {project}"
        raise RuntimeError(message)
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def make(project: Path, files: dict[str, str] = FILES) -> None:
    """Write the pipeline."""
    for name, text in files.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))


class Trial(NamedTuple):
    """What an edit came to.

    `stale` are stages that were served what they do not compute any more, `ran` those that ran
    again, `unneeded` those of them whose inputs and value are as before; `changes` tells whether
    any value changed, and `truth` is what each stage computes.
    """

    name: str
    changes: bool
    stale: list[str]
    ran: list[str]
    unneeded: list[str]
    reasons: list[str]
    truth: dict[str, Any]


def judged(name: str, before: dict[str, Any], after: dict[str, Any]) -> Trial:
    """Judge an edit by what each stage computed before it, and what each is served after it."""
    ran = [stage for stage, each in after.items() if not each["cached"]]
    stale = [stage for stage, each in after.items() if each["value"] != each["truth"]]
    unneeded, same = [], True
    for stage, each in after.items():
        # A stage whose inputs have changed has a reason of its own.
        if stage in ran and same and each["truth"] == before[stage]:
            unneeded.append(stage)
        same = same and each["truth"] == before[stage]
    reasons = list(dict.fromkeys(each for stage in ran for each in after[stage]["reasons"]))
    truth = {stage: each["truth"] for stage, each in after.items()}
    return Trial(name, not same, stale, ran, unneeded, reasons, truth)


def trials(folder: Path) -> list[Trial]:
    """Try every edit, each on a copy of a pipeline that has run."""
    base = folder / "base"
    make(base / "project")
    first = in_a_process(base / "project", base / "store")
    before = {stage: each["truth"] for stage, each in first.items()}
    found = []
    for number, edit in enumerate(EDITS):
        copy = folder / f"edit-{number}"
        shutil.copytree(base, copy, symlinks=True)
        edit.apply(copy / "project")
        found.append(judged(edit.name, before, in_a_process(copy / "project", copy / "store")))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = trials(Path(folder))
    if "--json" in sys.argv:
        print(json.dumps([each._asdict() for each in found]))
        return
    print("| edit | a value changes | ran again | stale |\n|---|---|---|---|")
    for each in found:
        ran = ", ".join(f"*{name}*" if name in each.unneeded else name for name in each.ran)
        changes = "yes" if each.changes else ""
        print(f"| {each.name} | {changes} | {ran} | {', '.join(each.stale)} |")
    stale = sum(bool(each.stale) for each in found)
    needless = sum(bool(each.ran) and not each.changes for each in found)
    unneeded = sum(bool(each.unneeded) for each in found)
    print(
        f"\n{len(found)} edits: {stale} with a stale hit, {needless} that change nothing and run "
        f"something, {unneeded} that also run a stage whose value stays (in italics)"
    )


if __name__ == "__main__":
    main()
