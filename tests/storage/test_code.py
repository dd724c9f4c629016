"""An edited function counts, in whichever module; an edited comment does not."""

import gc
import sys
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from digitflow.storage.code.digest import MODULE_LEVEL, Code, code_of
from digitflow.storage.digests import digest_json
from digitflow.storage.formats.arrays import read_npy, write_npy
from digitflow.storage.keys import StageKey, differences


class Project:
    """A folder of modules: write them, and ask what a stage is made of."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, modules: Mapping[str, str]) -> None:
        for path, source in modules.items():
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(source), encoding="utf-8")

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.root / path
        source = file.read_text(encoding="utf-8")
        assert old in source
        file.write_text(source.replace(old, new), encoding="utf-8")

    def code(self, module: str = "steps", *excluded: str) -> Code:
        return code_of(module, [self.root], excluded)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path / "project")
    made.write(
        {
            "steps.py": '''
                """A stage."""
                from middle import between

                LIMIT = 5  # five


                def step(x):
                    """Make a step."""
                    # a comment
                    return between(x) + LIMIT


                def other():
                    return 1
                ''',
            "middle.py": """
                import far.away


                def between(x):
                    return far.away.Walker(x).walk()
                """,
            "far/__init__.py": "",
            "far/away.py": '''
                class Walker:
                    """Walks."""

                    pace = 2

                    def __init__(self, x):
                        self.x = x

                    def walk(self):
                        """Walk."""
                        return self.x * self.pace

                    async def run(self):
                        return 1
                ''',
            "stranger.py": "def unused(): return 1",
        }
    )
    return made


def said(before: Code, after: Code) -> list[str]:
    documents = [StageKey("step", code, {}, {}).document() for code in (before, after)]
    return differences(*documents)


def test_every_definition_is_digested_for_itself(project: Project):
    code = project.code()
    assert {path: set(names) for path, names in code.items()} == {
        "steps.py": {"step", "other", MODULE_LEVEL},
        "middle.py": {"between", MODULE_LEVEL},
        "far/away.py": {"Walker", "Walker.__init__", "Walker.walk"},
    }


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("steps.py", "# a comment", "# another comment\n    # and one more"),
        ("steps.py", "# five", ""),
        ("steps.py", "# a comment", ""),
        ("steps.py", '"""Make a step."""', '"""Make a step.\n\n    In two paragraphs.\n    """'),
        ("steps.py", '"""Make a step."""', ""),
        ("steps.py", '"""A stage."""', ""),
        ("steps.py", "\n\n\n", "\n\n\n\n\n\n"),
        ("steps.py", "between(x) + LIMIT", "(between( x )\n        + LIMIT)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 0x5"),
        ("far/away.py", '"""Walks."""', '"""Runs."""'),
        ("far/away.py", '"""Walk."""', "'''Run.'''"),
        ("far/__init__.py", "", "# only a comment\n"),
        ("far/__init__.py", "", '"""Only a docstring."""\n'),
        ("stranger.py", "return 1", "return 2"),
    ],
)
def test_an_edit_that_changes_nothing(project: Project, path: str, old: str, new: str):
    before = project.code()
    project.edit(path, old, new)
    assert digest_json(project.code()) == digest_json(before)


@pytest.mark.parametrize(
    ("path", "old", "new", "reason"),
    [
        ("steps.py", "+ LIMIT", "- LIMIT", "steps.py (step)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 6", "steps.py (module level)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 5.0", "steps.py (module level)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 5\nMORE = 1", "steps.py (module level)"),
        ("steps.py", "return 1", "return '1'", "steps.py (other)"),
        ("steps.py", "def other()", "def another()", "steps.py (another, other)"),
        ("steps.py", "def step(x)", "def step(x=1)", "steps.py (step)"),
        ("steps.py", "def step(x)", "@print\ndef step(x)", "steps.py (step)"),
        ("steps.py", "# a comment", "'no docstring'", "steps.py (step)"),
        ("middle.py", "Walker(x)", "Walker(-x)", "middle.py (between)"),
        ("far/away.py", "self.x * self", "self.x / self", "far/away.py (Walker.walk)"),
        ("far/away.py", "self.x = x", "self.x = x + 1", "far/away.py (Walker.__init__)"),
        ("far/away.py", "pace = 2", "pace = 3", "far/away.py (Walker)"),
        ("far/away.py", "class Walker", "@print\nclass Walker", "far/away.py (Walker)"),
        ("far/away.py", "class Walker", "class Walker(dict)", "far/away.py (Walker)"),
        ("far/away.py", "return 1", "return 2", "far/away.py (Walker)"),
        ("far/__init__.py", "", "from builtins import *", "far/__init__.py (new file)"),
    ],
)
def test_an_edit_that_counts_is_named(project: Project, path: str, old: str, new: str, reason: str):
    before = project.code()
    project.edit(path, old, new)
    assert said(before, project.code()) == [f"code changed: {reason}"]


def test_nested_functions_and_classes_count_with_what_holds_them(project: Project):
    project.write(
        {
            "steps.py": """
                def step():
                    class Inner:
                        def f(self):
                            "docstring"
                            return 1
                    return Inner().f()

                class Outer:
                    class Middle:
                        def g(self): return 1
                """
        }
    )
    before = project.code()
    project.edit("steps.py", '"docstring"', '"other docstring"')
    assert project.code() == before
    project.edit("steps.py", "            return 1\n    return", "            return 2\n    return")
    middle = project.code()
    assert said(before, middle) == ["code changed: steps.py (step)"]
    project.edit("steps.py", "def g(self): return 1", "def g(self): return 2")
    assert said(middle, project.code()) == ["code changed: steps.py (Outer)"]


def test_definitions_of_one_name_count_together(project: Project):
    source = """
        class A:
            @property
            def x(self): return 1
            @x.setter
            def x(self, value): self.y = value

        if A:
            def f(): return 1
        else:
            def f(): return 2
        """
    project.write({"steps.py": source})
    before = project.code()
    assert set(before["steps.py"]) == {"A", "A.x", MODULE_LEVEL}
    project.edit("steps.py", "self.y = value", "self.y = -value")
    assert said(before, project.code()) == ["code changed: steps.py (A.x)"]


@pytest.mark.parametrize(
    "statement",
    [
        "import package.inner.helper",
        "import package.inner.helper as h",
        "import os, package.inner.helper",
        "from package.inner import helper",
        "from package.inner import helper as h",
        "from package.inner.helper import work",
        "from package.inner.helper import *",
        "from .inner import helper",
        "from .inner.helper import work",
        "from . import inner",
        "from .. import package",
        "from ..package.inner import helper",
        "def f():\n    from .inner import helper",
        "class A:\n    def f(self):\n        import package.inner.helper",
        "try:\n    from .inner import helper\nexcept ImportError:\n    helper = None",
        "if TYPE_CHECKING:\n    from .inner import helper",
    ],
)
def test_imports_of_every_form_are_followed(project: Project, statement: str):
    project.write(
        {
            "package/__init__.py": "from . import inner",
            "package/inner/__init__.py": "from . import helper",
            "package/inner/helper.py": "def work(): return 1",
            "package/step.py": statement,
        }
    )
    code = project.code("package.step")
    assert set(code) == {
        "package/__init__.py",
        "package/inner/__init__.py",
        "package/inner/helper.py",
        "package/step.py",
    }


def test_the_packages_above_a_module_count(project: Project):
    project.write({"package/__init__.py": "X = 1", "package/step.py": "def f(): return 1"})
    before = project.code("package.step")
    assert set(before) == {"package/__init__.py", "package/step.py"}
    project.edit("package/__init__.py", "X = 1", "X = 2")
    assert said(before, project.code("package.step")) == [
        "code changed: package/__init__.py (module level)"
    ]


def test_a_stage_in_a_package_itself(project: Project):
    project.write(
        {
            "package/__init__.py": "from .helper import work\ndef step(): return work()",
            "package/helper.py": "def work(): return 1",
        }
    )
    assert set(project.code("package")) == {"package/__init__.py", "package/helper.py"}


def test_folders_without_init_are_packages_too(project: Project):
    project.write({"steps.py": "import loose.helper", "loose/helper.py": "x = 1"})
    assert set(project.code()) == {"steps.py", "loose/helper.py"}


def test_modules_that_import_each_other(project: Project):
    project.write(
        {
            "steps.py": "import a",
            "a.py": "import b\ndef f(): return 1",
            "b.py": "import a, steps\ndef g(): return 1",
        }
    )
    before = project.code()
    assert set(before) == {"steps.py", "a.py", "b.py"}
    project.edit("b.py", "return 1", "return 2")
    assert said(before, project.code()) == ["code changed: b.py (g)"]


def test_excluded_packages_do_not_count_nor_what_only_they_import(project: Project):
    project.write(
        {
            "steps.py": "import store.cache, store2, tools.orchestrate",
            "store/__init__.py": "import behind",
            "store/cache.py": "x = 1",
            "store2.py": "x = 1",
            "behind.py": "x = 1",
            "tools/orchestrate.py": "x = 1",
            "tools/orchestrated.py": "x = 1",
        }
    )
    assert set(project.code("steps", "store", "tools.orchestrate")) == {"steps.py", "store2.py"}


def test_the_stage_itself_is_never_excluded(project: Project):
    assert "steps.py" in project.code("steps", "steps")


def test_a_module_that_appears_and_vanishes(project: Project):
    project.write({"steps.py": "try:\n    import extra\nexcept ImportError:\n    extra = None"})
    without = project.code()
    project.write({"extra.py": "def f(): return 1"})
    with_it = project.code()
    assert said(without, with_it) == ["code changed: extra.py (new file)"]
    (project.root / "extra.py").unlink()
    assert project.code() == without
    assert said(with_it, without) == ["code changed: extra.py (no longer used)"]


def test_a_module_that_becomes_a_package(project: Project):
    project.write({"steps.py": "import helper", "helper.py": "def f(): return 1"})
    before = project.code()
    (project.root / "helper.py").unlink()
    project.write({"helper/__init__.py": "def f(): return 1"})
    assert said(before, project.code()) == [
        "code changed: helper.py (no longer used)",
        "code changed: helper/__init__.py (new file)",
    ]


def test_libraries_do_not_count(project: Project):
    project.write({"steps.py": "import json, numpy.linalg, not_installed.at_all"})
    assert set(project.code()) == {"steps.py"}


def test_roots_are_searched_in_order(tmp_path: Path):
    one, other = Project(tmp_path / "one"), Project(tmp_path / "other")
    one.write({"steps.py": "import helper, only", "helper.py": "x = 1"})
    other.write({"helper.py": "x = 2", "only.py": "x = 3"})
    code = code_of("steps", [one.root, other.root])
    assert set(code) == {"steps.py", "helper.py", "only.py"}
    (one.root / "helper.py").unlink()
    assert said(code, code_of("steps", [one.root, other.root])) == [
        "code changed: helper.py (module level)"
    ]


def test_a_relative_import_outside_of_any_package_leads_nowhere(tmp_path: Path):
    project = Project(tmp_path / "project")
    project.write({"steps.py": "from . import x\nfrom ... import y", "__init__.py": "z = 1"})
    (tmp_path / "project.py").write_text("not ours")
    assert set(project.code()) == {"steps.py"}


def test_no_code_runs(project: Project):
    project.write({"steps.py": "import helper", "helper.py": "raise SystemExit('was run')"})
    assert set(project.code()) == {"steps.py", "helper.py"}


def test_the_source_need_not_be_utf8(project: Project):
    (project.root / "steps.py").write_bytes("# coding: latin-1\nx = 'ä'\n".encode("latin-1"))
    project.write({"far/copy.py": "x = 'ä'\n"})
    assert project.code()["steps.py"] == project.code("far.copy")["far/copy.py"]


def test_a_module_that_is_not_there(project: Project):
    with pytest.raises(ModuleNotFoundError, match=r"expected the source of module 'nowhere' under"):
        project.code("nowhere")


def test_a_module_that_cannot_be_parsed(project: Project):
    project.edit("far/away.py", "class", "klass")
    with pytest.raises(SyntaxError):
        project.code()


@contextmanager
def restless() -> Iterator[None]:
    """Let threads change places inside the parser: it collects garbage there, which calls Python.

    Before 3.11.8, Python's parser itself could not be used by two threads at a time.
    """
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(linger)
    gc.set_threshold(20)
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*before)
        gc.callbacks.remove(linger)


def write_modules(folder: Path, count: int) -> list[str]:
    source = (Path(__file__).resolve()).read_text(encoding="utf-8")
    names = [f"module_{number}" for number in range(count)]
    for name in names:
        (folder / f"{name}.py").write_text(f"{source}\n{name} = 1\n", encoding="utf-8")
    return names


def test_threads_may_read_at_once(tmp_path: Path):
    names = write_modules(tmp_path, 24)
    with restless(), ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda name: code_of(name, [tmp_path]), names))
    assert [set(code) for code in found] == [{f"{name}.py"} for name in names]


def test_threads_may_open_arrays_meanwhile(tmp_path: Path):
    """NumPy parses, too: a .npy file's header is a Python literal."""
    names = write_modules(tmp_path, 12)
    write_npy(tmp_path / "array.npy", np.arange(5))
    with restless(), ThreadPoolExecutor(6) as pool:
        read = [pool.submit(code_of, name, [tmp_path]) for name in names]
        opened = [pool.submit(read_npy, tmp_path / "array.npy") for _ in range(200)]
        assert [set(each.result()) for each in read] == [{f"{name}.py"} for name in names]
        assert all(each.result().tolist() == [0, 1, 2, 3, 4] for each in opened)


def linger(_phase: str, _info: object) -> None:
    sum(range(50))
