"""What a stage reaches counts, in whichever module; nothing else does, and no comment."""

import gc
import sys
import textwrap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from digitflow.storage.code.digest import (
    DEFINITION,
    FILE,
    IMPORTS,
    ORDER,
    Closure,
    Code,
    Start,
    closure_of,
)
from digitflow.storage.code.modules import Modules
from digitflow.storage.code.syntax import MODULE_LEVEL
from digitflow.storage.digests import digest_bytes, digest_json
from digitflow.storage.formats.arrays import read_npy, write_npy
from digitflow.storage.keys import StageKey, differences

EXCLUDED = ("digitflow.__init__", "digitflow.storage", "digitflow.tasks.engine")


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

    def closure(self, module: str = "steps", *excluded: str, name: str = "step") -> Closure:
        return closure_of([Start(module, name)], Modules([self.root]), excluded)

    def code(self, module: str = "steps", *excluded: str, name: str = "step") -> Code:
        return self.closure(module, *excluded, name=name).code


def real(code: Code) -> dict[str, set[str]]:
    """What counts of each module, without what is only said of it."""
    return {path: set(names) - {IMPORTS, ORDER} for path, names in code.items()}


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


def test_every_definition_that_is_reached_is_digested_for_itself(project: Project):
    assert real(project.code()) == {
        "steps.py": {"step", "LIMIT"},
        "middle.py": {"between"},
        "far/away.py": {"Walker", "Walker.__init__", "Walker.walk", "Walker.run"},
    }


NOTHING = [
    ("steps.py", "# a comment", "# another comment\n    # and one more"),
    ("steps.py", "# five", ""),
    ("steps.py", "# a comment", ""),
    ("steps.py", '"""Make a step."""', '"""Make a step.\n\n    In two paragraphs.\n    """'),
    ("steps.py", '"""Make a step."""', ""),
    ("steps.py", '"""A stage."""', ""),
    ("steps.py", "\n\n\n", "\n\n\n\n\n\n"),
    ("steps.py", "between(x) + LIMIT", "(between( x )\n        + LIMIT)"),
    ("steps.py", "LIMIT = 5", "LIMIT = 0x5"),
    ("steps.py", "LIMIT = 5", "LIMIT: int = 5"),
    ("steps.py", "LIMIT = 5  # five", 'LIMIT = 5\n"""What a step is long."""'),
    ("steps.py", "LIMIT = 5", "LIMIT = 5\nMORE = 1"),
    ("steps.py", "def step(x):", "def step(x: int) -> int:"),
    ("steps.py", "# a comment", "'a bare string'\n    ..."),
    ("steps.py", "# a comment", "pass"),
    ("steps.py", "def other():\n    return 1", ""),
    ("steps.py", "return 1", "return '1'"),
    ("steps.py", "def other()", "def another()"),
    ("steps.py", "def other()", "class Unused(Exception):\n    pass\n\n\ndef other()"),
    ("steps.py", "from middle", "import os\nimport json as j\nfrom middle"),
    (
        "steps.py",
        "from middle import between",
        "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
        "from middle import between\nif TYPE_CHECKING:\n    from stranger import unused",
    ),
    ("middle.py", "def between(x)", "def between(x: 'int')"),
    ("far/away.py", '"""Walks."""', '"""Runs."""'),
    ("far/away.py", '"""Walk."""', "'''Run.'''"),
    ("far/away.py", "pace = 2", 'pace = 2\n    """How fast."""'),
    ("far/away.py", "pace = 2", "pace: int = 2"),
    ("far/__init__.py", "", "# only a comment\n"),
    ("far/__init__.py", "", '"""Only a docstring."""\n'),
    ("far/__init__.py", "", "UNUSED = 5\n"),
    ("far/__init__.py", "", "import logging\nlogger = logging.getLogger(__name__)\n"),
    ("stranger.py", "return 1", "return 2"),
]


@pytest.mark.parametrize(("path", "old", "new"), NOTHING)
def test_an_edit_that_changes_nothing(project: Project, path: str, old: str, new: str):
    before = project.code()
    project.edit(path, old, new)
    assert digest_json(project.code()) == digest_json(before)


@pytest.mark.parametrize(
    ("path", "old", "new", "reason"),
    [
        ("steps.py", "+ LIMIT", "- LIMIT", "steps.py (step)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 6", "steps.py (LIMIT)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 5.0", "steps.py (LIMIT)"),
        ("steps.py", "LIMIT = 5", "LIMIT = True", "steps.py (LIMIT)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 5\nprint.x = 1", "steps.py (module level)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 5\nLIMIT += 1", "steps.py (module level)"),
        ("steps.py", "LIMIT = 5", "LIMIT = 5\nregister(5)", "steps.py (module level)"),
        ("steps.py", "def step(x)", "def step(x=1)", "steps.py (step)"),
        ("steps.py", "def step(x)", "@print\ndef step(x)", "steps.py (step)"),
        ("steps.py", "def other()", "@register\ndef other()", "steps.py (other)"),
        ("steps.py", "def other()", "def other(x=register())", "steps.py (other)"),
        ("steps.py", "def other():\n    return 1", "class B(dict, k=1): ...", "steps.py (B)"),
        (
            "steps.py",
            "def other():",
            "import far.away as between\ndef other():",
            "steps.py (imports",
        ),
        ("middle.py", "Walker(x)", "Walker(-x)", "middle.py (between)"),
        ("far/away.py", "self.x * self", "self.x / self", "far/away.py (Walker.walk)"),
        ("far/away.py", "self.x = x", "self.x = x + 1", "far/away.py (Walker.__init__)"),
        ("far/away.py", "pace = 2", "pace = 3", "far/away.py (Walker)"),
        ("far/away.py", "class Walker", "@print\nclass Walker", "far/away.py (Walker)"),
        ("far/away.py", "class Walker", "class Walker(dict)", "far/away.py (Walker)"),
        ("far/away.py", "return 1", "return 2", "far/away.py (Walker.run)"),
        ("far/__init__.py", "", "import sys\nsys.path.append('x')", "far/__init__.py (new file)"),
    ],
)
def test_an_edit_that_counts_is_named(project: Project, path: str, old: str, new: str, reason: str):
    before = project.code()
    project.edit(path, old, new)
    assert any(each.startswith(f"code changed: {reason}") for each in said(before, project.code()))


def test_only_what_changed_is_named(project: Project):
    before = project.code()
    project.edit("far/away.py", "pace = 2", "pace = 3")
    assert said(before, project.code()) == ["code changed: far/away.py (Walker)"]


def counts(project: Project, before: str, after: str, path: str = "steps.py") -> bool:
    """Tell whether it matters which of two sources a module has."""
    project.write({path: before})
    one = project.closure()
    project.write({path: after})
    return digest_json(one.code) != digest_json(project.closure().code)


ORDERS = {
    "functions that register themselves": (
        "R = []\ndef r(f):\n    R.append(f)\n    return f\n",
        "@r\ndef a(x): return x + 1\n",
        "@r\ndef b(x): return x * 2\n",
        "def step(x):\n    for f in R: x = f(x)\n    return x\n",
    ),
    "an import and a definition of one name": (
        "",
        "from middle import g\n",
        "def g(x): return 1\n",
        "def step(x): return g(x)\n",
    ),
    "a constant and the default that it is": (
        "K = 1\n",
        "K = 2\n",
        "def g(x, k=K): return x * k\n",
        "def step(x): return g(x)\n",
    ),
    "statements at the top": (
        "d = {}\n",
        "d.update(a=1)\n",
        "d.update(a=2)\n",
        "def step(x): return d['a']\n",
    ),
    "methods of a class that is looked at": (
        "class A:\n",
        "    def p(self): return 1\n",
        "    def q(self): return 2\n",
        "def step(x): return list(vars(A))\n",
    ),
    "two definitions of one name": (
        "",
        "def g(x): return 1\n",
        "def g(x): return 2\n",
        "def step(x): return g(x)\n",
    ),
    "two imports of one name": (
        "",
        "from middle import g\n",
        "from far.away import Walker as g\n",
        "def step(x): return g(x)\n",
    ),
    "fields of a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n",
        "    p: int\n",
        "    q: int\n",
        "def step(x): return A(1, 2)\n",
    ),
    "modules that register": ("", "import one\n", "import two\n", "def step(x): return x\n"),
    "a module that registers and a statement that does": (
        "import one\n",
        "import two\n",
        "one.R.append(3)\n",
        "def step(x): return x\n",
    ),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order_counts(project: Project, name: str):
    project.write(
        {
            "one.py": "R = []\nR.append(1)\n",
            "two.py": "from one import R\nR.append(2)\n",
            "middle.py": "def g(x): return 3\n",
        }
    )
    head, one, other, tail = ORDERS[name]
    assert counts(project, head + one + other + tail, head + other + one + tail)


def test_the_order_of_imports_that_do_nothing_does_not(project: Project):
    rest = "def step(x): return json.dumps([between(x), far.away.Walker])\n"
    assert not counts(
        project,
        "import json\nimport far.away\nfrom middle import between\n" + rest,
        "from middle import between\nimport far.away\nimport json\n" + rest,
    )


SEEN = {
    "globals": ("def step(x): return globals()['h' + 'elp'](x)\n", "def help(x): return 1\n",
                "def help(x): return 2\n"),
    "eval": ("def step(x): return eval('help(x)')\n", "def help(x): return 1\n",
             "def help(x): return 2\n"),
    "sys.modules": ("import sys\ndef step(x): return sys.modules[__name__].help\n",
                    "def help(x): return 1\n", "def help(x): return 2\n"),
    "subclasses": ("class A: pass\ndef step(x): return A.__subclasses__()\n",
                   "class B(A):\n    k = 1\n", "class B(A):\n    k = 2\n"),
    "a registering base": (
        "R = []\nclass A:\n    def __init_subclass__(cls): R.append(cls.k)\n"
        "def step(x): return R\n",
        "class B(A):\n    k = 1\n", "class B(A):\n    k = 2\n"),
    "a global of another function": (
        "K = 1\ndef step(x): return K\n", "def set_it():\n    global K\n    K = 2\n",
        "def set_it():\n    global K\n    K = 3\n"),
    "docstrings that are read": ("def step(x): return help.__doc__, help(x)\n",
                                 "def help(x):\n    'one'\n", "def help(x):\n    'two'\n"),
    "annotations that are read": (
        "from typing import get_type_hints\ndef step(x): return get_type_hints(help)\n",
        "def help(x: int): ...\n", "def help(x: float): ...\n"),
    "fields of a dataclass": (
        "from dataclasses import dataclass\ndef step(x): return A(1)\n",
        "@dataclass\nclass A:\n    p: int\n", "@dataclass\nclass A:\n    p: float\n"),
    "fields of a model": (
        "from pydantic import BaseModel\ndef step(x): return A(p=1)\n",
        "class A(BaseModel):\n    p: int\n", "class A(BaseModel):\n    p: float\n"),
    "fields of what a model inherits": (
        "from pydantic import BaseModel\nclass B(BaseModel): ...\ndef step(x): return C(p=1)\n",
        "class A:\n    p: int = 1\nclass C(A, B): ...\n",
        "class A:\n    p: float = 1\nclass C(A, B): ...\n"),
    "an annotation that a decorator reads": (
        "from pydantic import validate_call\ndef step(x): return help(x)\n",
        "@validate_call\ndef help(x: int): return x\n",
        "@validate_call\ndef help(x: float): return x\n"),
    "a decorator": ("def step(x): return help(x)\ndef d(f): return f\n",
                    "@d\ndef help(x): return x\n", "def help(x): return x\n"),
    "a default": ("def step(x): return help(x)\nA = 1\nB = 2\n",
                  "def help(x, k=A): return x\n", "def help(x, k=B): return x\n"),
    "a constant behind a constant": ("def step(x): return A\n", "B = 1\nA = [B]\n",
                                     "B = 2\nA = [B]\n"),
    "what a statement at the top uses": (
        "R = {}\ndef step(x): return R\ndef put(): R['a'] = value()\nput()\n",
        "def value(): return 1\n", "def value(): return 2\n"),
    "a monkeypatch": ("import far.away\nfrom middle import between\n"
                      "def step(x): return between(x)\n",
                      "far.away.Walker.pace = 3\n", "far.away.Walker.pace = 4\n"),
    "a setting": ("import numpy as np\ndef step(x): return x\n", "np.seterr(all='raise')\n",
                  "np.seterr(all='ignore')\n"),
    "a name set in the main block": (
        "K = 1\ndef step(x): return K\n", "if __name__ == '__main__':\n    K = 2\n",
        "if __name__ == '__main__':\n    K = 3\n"),
    "a branch at the top": ("def step(x): return help(x)\n",
                            "if 1:\n    def help(x): return 1\nelse:\n    help = 2\n",
                            "if 1:\n    def help(x): return 2\nelse:\n    help = 2\n"),
    "a lambda": ("def step(x): return help(x)\n", "help = lambda x: x\n", "help = lambda x: -x\n"),
    "a comprehension": ("def step(x): return [help(x) for x in range(3)]\n",
                        "def help(x): return 1\n", "def help(x): return 2\n"),
    "a match": ("def step(x):\n    match x:\n        case 1: return help(x)\n",
                "def help(x): return 1\n", "def help(x): return 2\n"),
    "what is only in an f-string": (
        "def step(x): return f'{help(x)!r:>{W}}'\n", "W = 1\nhelp = 1\n", "W = 2\nhelp = 1\n"),
    "a name of the standard library": ("def step(x): return f(x)\n", "from math import sin as f\n",
                                       "from math import cos as f\n"),
    "a class variable by a base": (
        "def step(x): return C().k\nclass C(B if True else object): ...\n",
        "class B:\n    k = 1\n", "class B:\n    k = 2\n"),
    "a metaclass": ("def step(x): return C\nclass C(metaclass=M): ...\n",
                    "class M(type):\n    k = 1\n", "class M(type):\n    k = 2\n"),
    "an exception that is caught": ("def step(x):\n    try: f()\n    except E: return 1\n",
                                    "E = ValueError\n", "E = KeyError\n"),
    "what a comprehension calls by a name of its own": (
        "def step(x): return [help for help in help(x)]\n", "def help(x): return [1]\n",
        "def help(x): return [2]\n"),
    "a walrus in a default": ("def step(x): return Y\n", "def f(a=[(Y := 1)]): ...\n",
                              "def f(a=[(Y := 2)]): ...\n"),
    "a global of a class": ("def step(x): return Y\n", "class C:\n    global Y\n    Y = 1\n",
                            "class C:\n    global Y\n    Y = 2\n"),
    "a docstring by its name": ("def step(x): return getattr(help, '__doc__')\n",
                                "def help(x):\n    'one'\n", "def help(x):\n    'two'\n"),
    "a comment that is read": ("import inspect\ndef step(x): return inspect.getsource(help)\n",
                               "def help(x): ...  # one\n", "def help(x): ...  # two\n"),
    "in which line something is": (
        "import inspect\ndef step(x): return inspect.stack()[0].lineno, help(x)\n",
        "def help(x): ...\n", "\ndef help(x): ...\n"),
    "how a traceback tells it": (
        "from traceback import format_exc\ndef step(x): return format_exc(), help(x)\n",
        "def help(x): ...\n", "\ndef help(x): ...\n"),
    "what a class imports": ("def step(x): return C.V\n", "class C:\n    from v import a as V\n",
                             "class C:\n    from v import b as V\n"),
    "the walrus": ("def step(x):\n    if (y := help(x)): return y\n", "def help(x): return 1\n",
                   "def help(x): return 2\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_what_is_reached_counts(project: Project, name: str):
    rest, one, other = SEEN[name]
    # Before it where the rest needs it, after it else: order is another test's.
    head = "def register(f): return f\n"
    for first, second in ((one + rest, other + rest), (rest + one, rest + other)):
        assert counts(project, head + first, head + second)


MADE = """
R = []
class B:
    me = property(lambda self: self)
    def __rshift__(self, n): R.append(n)
    def __getitem__(self, n): R.append(n)
    def __getattr__(self, n): R.append(n)
    def __format__(self, n): R.append(n)
    def __str__(self): R.append("str")
    def __repr__(self): R.append("repr")
    def __init_subclass__(cls): R.append(cls.__name__)
O = B()
again = [O.me][0]
def put(n): R.append(n)
"""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("O >> 1", "O >> 2"),
        ("x = O >> 1", "x = O >> 2"),
        ("x = again >> 1", "x = again >> 2"),
        ("x = O[1]", "x = O[2]"),
        ("x = O.a", "x = O.b"),
        ("x = f'{O:1}'", "x = f'{O:2}'"),
        ("x = str(O)", "x = repr(O)"),
        ("x = list(map(put, [1]))", "x = list(map(put, [2]))"),
        ("x = sorted([1], key=put)", "x = sorted([2], key=put)"),
        ("x = min([1], key=lambda n: put(n))", "x = min([2], key=lambda n: put(n))"),
    ],
)
def test_what_operators_of_own_code_do_while_it_is_loaded_counts(
    project: Project, one: str, other: str
):
    project.write({"made.py": MADE, "doing.py": f"from made import *\n{one}\n"})
    project.write({"steps.py": "import doing\nfrom made import R\ndef step(x): return R\n"})
    before = project.code()
    project.edit("doing.py", one, other)
    assert project.code() != before


def test_plain_operators_do_nothing_to_others(project: Project):
    plain = (
        "from pathlib import Path\nA = 1\nB = [A * 2, -A, A < 3]\nC = Path(__file__).parent / 'a'\n"
        "D = sorted(['a'], key=str.lower)\nE = max(B, key=lambda n: n.real)\nF = f'{C}{B[0]}'\n"
    )
    project.write({"plain.py": plain + "def used(): return 1\n"})
    project.write({"steps.py": "from plain import used\ndef step(x): return used()\n"})
    assert project.code()["plain.py"].keys() == {"used"}


def test_the_order_of_imports_that_make_subclasses_counts(project: Project):
    project.write({"made.py": MADE, "p.py": "from made import B\nclass P(B): ...\n"})
    project.write({"q.py": "from made import B\nclass Q(B): ...\n"})
    rest = "from made import R\ndef step(x): return R\n"
    assert counts(project, "import p\nimport q\n" + rest, "import q\nimport p\n" + rest)


def test_what_a_class_imports_is_followed(project: Project):
    project.write({"v.py": "a = 1\n"})
    project.write({"steps.py": "class C:\n    from v import a\ndef step(x): return C().a\n"})
    before = project.code()
    project.edit("v.py", "1", "2")
    assert said(before, project.code()) == ["code changed: v.py (a)"]


def test_what_a_module_offers_counts_where_all_of_it_is_imported(project: Project):
    project.write({"v.py": "__all__ = ['a']\na = 1\ndef len(x): return 9\n"})
    project.write({"steps.py": "from v import *\ndef step(x): return len(x)\n"})
    before = project.code()
    project.edit("v.py", "['a']", "['a', 'len']")
    assert project.code() != before


def test_annotations_that_are_kept_as_text_are_others(project: Project):
    rest = "def help(x: int): ...\ndef step(x): return help.__annotations__\n"
    assert counts(project, rest, "from __future__ import annotations\n" + rest)


UNSEEN = {
    "a local variable of its name": (
        "def step(x):\n    help = x\n    return help\n", "def help(): return 1\n",
        "def help(): return 2\n"),
    "a parameter of its name": ("def step(help): return help\n", "def help(): return 1\n",
                                "def help(): return 2\n"),
    "a loop variable of its name": (
        "def step(x):\n    for help in x: print(help)\n    return [k for k in x]\n",
        "def help(): return 1\n", "def help(): return 2\n"),
    "an attribute of its name": ("def step(x): return x.help\n", "def help(): return 1\n",
                                 "def help(): return 2\n"),
    "a method of its name": (
        "class A:\n    def help(self): return 1\ndef step(x): return A().help()\n",
        "def help(): return 1\n", "def help(): return 2\n"),
    "another stage": (
        "from digitflow import stage\n@stage(outputs={'x': 'json'})\ndef step(x): return x\n",
        "@stage(outputs={'x': 'json'})\ndef other(x): return 1\n",
        "@stage(outputs={'y': 'json'}, retries=3)\ndef other(x): return 2\n"),
    "another stage by its long name": (
        "from digitflow.tasks.engine.stage import stage as s\n@s({'x': 'json'})\n"
        "def step(x): return x\n",
        "@s(outputs={'x': 'json'})\ndef other(x): return 1\n", ""),
    "a flow": ("from prefect import flow\ndef step(x): return x\n",
               "@flow\ndef f(): return 1\n", "@flow(name='x')\ndef f(): return 2\n"),
    "the main block": ("def step(x): return x\ndef main(): ...\n",
                       "if __name__ == '__main__':\n    main()\n",
                       "if __name__ == '__main__':\n    main(epochs=3)\n"),
    "calls of stages in a script": (
        "from digitflow import stage\n@stage(outputs={'x': 'json'})\ndef step(): return x\n",
        "done = step.submit(upto=3)\nprint(done.result())\n",
        "done = step.with_label('b').submit(upto=4).result()\nprint(1)\n"),
    "what may be unused": (
        "def step(x): return x\n",
        "import re\nfrom functools import cache\nP = re.compile('a')\nD = dict(a=1)\n@cache\n"
        "def f(): ...\nclass E(Exception): ...\nQ = [i for i in range(3)]\n",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_not_reached_does_not(project: Project, name: str):
    rest, one, other = UNSEEN[name]
    assert not counts(project, rest + one, rest + other)


POLICY = "from digitflow import stage\n@stage(outputs={'x': 'json'}%s)\ndef step(x): return x\n"


@pytest.mark.parametrize(
    ("policy", "matters"),
    [
        (", tags=('a',)", False),
        (", retries=Retries(3)", False),
        (", shows_progress=True", False),
        (", ignored=('x',)", True),
    ],
)
def test_policy_of_a_stage(project: Project, policy: str, matters: bool):
    assert counts(project, POLICY % "", POLICY % policy) is matters


def test_a_legacy_prefix_does_not_count(project: Project):
    assert not counts(project, "def step(): return 'a'\n", "def step(): return u'a'\n")
    assert counts(project, "def step(): return 'a'\n", "def step(): return b'a'\n")


def test_a_long_chain_and_a_large_number(project: Project):
    chain = "".join(f"    elif x == {i}: x = {i}\n" for i in range(1_500))
    source = f"K = 0x{'f' * 5_000}\ndef step(x):\n    if x: pass\n{chain}    return x + K\n"
    assert counts(project, source, source.replace("x = 1499", "x = 0"))
    assert counts(project, source, source.replace("fff\n", "ffe\n"))
    top = "".join(f"elif {i}: pass\n" for i in range(1_500))
    assert not counts(project, "def step(): ...\nif 1: pass\n" + top, "def step(): ...\n")


def test_two_definitions_of_one_name_in_a_function_are_told_apart(project: Project):
    project.write(
        {
            "steps.py": """
                def make(flag):
                    if flag:
                        def f():
                            return 1
                    else:
                        def f():
                            return 2
                    return f
                """
        }
    )
    modules = Modules([project.root])
    one, other = (
        closure_of([Start("steps", "make.<locals>.f", line)], modules).code for line in (4, 7)
    )
    assert said(one, other) == ["code changed: steps.py (definition)"]
    assert set(one["steps.py"]) == {"make", DEFINITION}


def test_nested_functions_and_classes_count_with_what_holds_them(project: Project):
    project.write(
        {
            "steps.py": """
                def step():
                    class Inner:
                        def f(self):
                            "docstring"
                            return 1
                    return Inner().f(), Outer

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


def test_methods_of_one_name_count_together(project: Project):
    source = """
        class A:
            @property
            def x(self): return 1
            @x.setter
            def x(self, value): self.y = value

        def step(): return A()
        """
    project.write({"steps.py": source})
    before = project.code()
    assert set(before["steps.py"]) == {"A", "A.x", "step", ORDER}
    project.edit("steps.py", "self.y = value", "self.y = -value")
    assert said(before, project.code()) == ["code changed: steps.py (A.x)"]


@pytest.mark.parametrize(
    "source",
    [
        "import package.inner.helper\ndef step(): return package.inner.helper.work()",
        "import package.inner.helper as h\ndef step(): return h.work()",
        "import os, package.inner.helper\ndef step(): return package.inner.helper.work",
        "from package.inner import helper\ndef step(): return helper.work()",
        "from package.inner import helper as h\ndef step(): return h.work()",
        "from package.inner.helper import work\ndef step(): return work()",
        "from package.inner.helper import *\ndef step(): return work()",
        "from .inner import helper\ndef step(): return helper.work()",
        "from .inner.helper import work\ndef step(): return [work]",
        "from . import inner\ndef step(): return inner.helper.work()",
        "from . import inner\ndef step(): return inner",
        "def step():\n    from .inner import helper\n    return helper.work()",
        "def step():\n    import package.inner.helper\n    return package.inner.helper.work()",
        "def step():\n    import package.inner.helper as h\n    return h.work()",
        "def step():\n    from package.inner.helper import work as w\n    return w()",
        "class A:\n    def f(self):\n        import package.inner.helper as h\n"
        "        return h.work()\ndef step(): return A()",
        "try:\n    from .inner import helper\nexcept ImportError:\n    helper = None\n"
        "def step(): return helper.work()",
        "from importlib import import_module as load\n"
        "def step(): return load('package.inner.helper')",
        "import importlib\ndef step():\n"
        "    h = importlib.import_module('.inner.helper', 'package')\n    return h.work()",
        "def step(): return __import__('package.inner.helper').inner.helper.work()",
        "def step():\n    from importlib import import_module as load\n"
        "    return load('package.inner.helper').work()",
        "import package.inner.helper as h\ndef step(): return getattr(h, 'wo' + 'rk')()",
        "import package.inner.helper as h\ndef step(): return vars(h)",
        "import package.inner.helper as h\nf = h.work\ndef step(): return f()",
    ],
)
def test_imports_of_every_form_are_followed(project: Project, source: str):
    project.write(
        {
            "package/__init__.py": "from . import inner",
            "package/inner/__init__.py": "from . import helper",
            "package/inner/helper.py": "def work(): return 1",
            "package/step.py": source,
        }
    )
    before = project.code("package.step")
    assert real(before)["package/inner/helper.py"] == {"work"}
    project.edit("package/inner/helper.py", "return 1", "return 2")
    assert said(before, project.code("package.step")) == [
        "code changed: package/inner/helper.py (work)"
    ]


def test_an_import_for_type_checking_is_not(project: Project):
    project.write(
        {
            "steps.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import middle\n"
            "def step(x: 'middle.A'): return x",
            "middle.py": "print.x = 1",
        }
    )
    assert set(project.code()) == {"steps.py"}


def test_what_the_packages_above_a_module_do_counts(project: Project):
    project.write({"package/__init__.py": "X = 1", "package/step.py": "def step(): return 1"})
    assert set(project.code("package.step")) == {"package/step.py"}
    project.write({"package/__init__.py": "X = 1\nset_up(X)"})
    before = project.code("package.step")
    assert real(before)["package/__init__.py"] == {"X", MODULE_LEVEL}
    project.edit("package/__init__.py", "X = 1", "X = 2")
    assert said(before, project.code("package.step")) == ["code changed: package/__init__.py (X)"]


def test_a_stage_in_a_package_itself(project: Project):
    project.write(
        {
            "package/__init__.py": "from .helper import work\ndef step(): return work()",
            "package/helper.py": "def work(): return 1",
        }
    )
    assert set(project.code("package")) == {"package/__init__.py", "package/helper.py"}


def test_names_that_are_handed_on_are_followed(project: Project):
    project.write(
        {
            "steps.py": "from package import work\ndef step(): return work()",
            "package/__init__.py": "from .inner import work",
            "package/inner.py": "from .deep import *",
            "package/deep.py": "def work(): return 1\ndef unused(): return 1",
        }
    )
    assert real(project.code()) == {
        "steps.py": {"step"},
        "package/__init__.py": set(),
        "package/inner.py": set(),
        "package/deep.py": {"work"},
    }


def test_folders_without_init_are_packages_too(project: Project):
    project.write(
        {
            "steps.py": "import loose.helper\ndef step(): return loose.helper.x",
            "loose/helper.py": "x = 1",
        }
    )
    assert set(project.code()) == {"steps.py", "loose/helper.py"}


def test_a_package_may_lie_in_several_folders(tmp_path: Path):
    one, other = Project(tmp_path / "one"), Project(tmp_path / "other")
    one.write({"steps.py": "def step():\n    from space import a, b\n    return a.x + b.x\n",
               "space/a.py": "x = 1"})  # fmt: skip
    other.write({"space/b.py": "x = 1"})
    code = closure_of([Start("steps", "step")], Modules([one.root, other.root])).code
    assert real(code) == {"steps.py": {"step"}, "space/a.py": {"x"}, "space/b.py": {"x"}}


def test_modules_that_import_each_other(project: Project):
    project.write(
        {
            "steps.py": "import a\ndef step(): return a.f()",
            "a.py": "import b\ndef f(): return b.g()",
            "b.py": "import a, steps\ndef g(): return a.f() + steps.step()",
        }
    )
    before = project.code()
    assert set(before) == {"steps.py", "a.py", "b.py"}
    project.edit("b.py", "return a", "return -a")
    assert said(before, project.code()) == ["code changed: b.py (g)"]


def test_excluded_packages_do_not_count_nor_what_only_they_import(project: Project):
    project.write(
        {
            "steps.py": "import store.cache, store2, tools.orchestrate\n"
            "def step(): return store, store.cache.x, store2.x, tools.orchestrate.x",
            "store/__init__.py": "import behind\nbehind.y = 1",
            "store/cache.py": "x = 1",
            "store2.py": "x = 1",
            "behind.py": "x = 1\nprint.x = 1",
            "tools/orchestrate.py": "x = 1",
            "tools/orchestrated.py": "x = 1",
        }
    )
    assert set(project.code("steps", "store", "tools.orchestrate")) == {"steps.py", "store2.py"}


def test_the_stage_itself_is_never_excluded(project: Project):
    assert "steps.py" in project.code("steps", "steps")


def test_a_module_that_appears_and_vanishes(project: Project):
    project.write(
        {
            "steps.py": "try:\n    import extra\nexcept ImportError:\n    extra = None\n"
            "def step(): return extra and extra.f()"
        }
    )
    without = project.code()
    project.write({"extra.py": "def f(): return 1"})
    with_it = project.code()
    assert said(without, with_it) == ["code changed: extra.py (new file)"]
    (project.root / "extra.py").unlink()
    assert project.code() == without
    assert said(with_it, without) == ["code changed: extra.py (no longer used)"]


def test_a_module_that_becomes_a_package(project: Project):
    project.write({"steps.py": "import helper\ndef step(): return helper.f()",
                   "helper.py": "def f(): return 1"})  # fmt: skip
    before = project.code()
    (project.root / "helper.py").unlink()
    project.write({"helper/__init__.py": "def f(): return 1"})
    assert said(before, project.code()) == [
        "code changed: helper.py (no longer used)",
        "code changed: helper/__init__.py (new file)",
    ]


def test_a_module_that_a_link_leads_to(project: Project, tmp_path: Path):
    (tmp_path / "elsewhere.py").write_text("def f(): return 1\n")
    project.write({"steps.py": "import linked\ndef step(): return linked.f()"})
    (project.root / "linked.py").symlink_to(tmp_path / "elsewhere.py")
    before = project.code()
    (tmp_path / "elsewhere.py").write_text("def f(): return 2\n")
    assert said(before, project.code()) == ["code changed: linked.py (f)"]


def test_a_binary_module_counts_by_its_bytes(project: Project):
    project.write({"steps.py": "import fast, old\ndef step(): return fast.f(), old.g()"})
    for name in (f"fast{EXTENSION_SUFFIXES[0]}", "old.pyc"):
        (project.root / name).write_bytes(b"1")
    before = project.closure()
    assert before.code["fast.so"] == {FILE: digest_bytes(b"1")}
    assert before.unfollowed == ("old has no source, only bytecode",)
    for name in (f"fast{EXTENSION_SUFFIXES[0]}", "old.pyc"):
        (project.root / name).write_bytes(b"2")
    assert said(before.code, project.code()) == [
        "code changed: fast.so (file)",
        "code changed: old.pyc (file)",
    ]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import importlib\ndef step(x): return importlib.import_module(x)", "import_module(x)"),
        ("def step(x): return __import__('a' + x)", "__import__('a' + x)"),
        ("import runpy\ndef step(x): return runpy.run_path('a.py')", "runpy.run_path(…)"),
        ("import lazy\ndef step(x): return lazy.work", "lazy.py: work, by its __getattr__"),
    ],
)
def test_what_cannot_be_followed_is_said_by_name(project: Project, source: str, says: str):
    project.write({"steps.py": source, "lazy.py": "def __getattr__(name): return 1\nx = 1"})
    assert [says in each for each in project.closure().unfollowed] == [True]


def test_of_a_lazy_module_everything_counts(project: Project):
    project.write(
        {
            "steps.py": "import lazy\ndef step(x): return lazy.work",
            "lazy.py": "def __getattr__(name): return 1\nx = 1",
        }
    )
    assert real(project.code())["lazy.py"] == {"__getattr__", "x"}


def test_libraries_count_by_version_and_only_where_they_are_used():
    modules = Modules()
    found = closure_of([Start("digitflow.tasks.stages.evaluate", "evaluate")], modules, EXCLUDED)
    assert found.libraries == {"numpy": version("numpy"), "pandas": version("pandas")}
    assert not any("numpy/" in path or "pandas/" in path for path in found.code)
    found = closure_of([Start("digitflow.tasks.stages.decode", "decode")], modules, EXCLUDED)
    assert "pandas" not in found.libraries


def install(root: Path, name: str, files: list[str], *, version: str = "1.0") -> None:
    described = root / f"{name}-{version}.dist-info"
    described.mkdir(parents=True)
    (described / "RECORD").write_text("".join(f"{each},sha256=x,1\n" for each in files))
    for each in files:
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        (root / each).write_text("x = 1\n")


def test_own_is_what_no_wheel_lists(project: Project, tmp_path: Path):
    site = tmp_path / "site"
    install(site, "Some_Library", ["library/__init__.py", "other_name.py"], version="2.1")
    (site / "mine.py").write_text("x = 1\n")
    project.write(
        {
            "steps.py": "import library, other_name, mine\n"
            "def step(x): return library.x, other_name.x, mine.x"
        }
    )
    found = closure_of([Start("steps", "step")], Modules([project.root, site]))
    assert found.libraries == {"Some-Library": "2.1"}
    assert real(found.code) == {"steps.py": {"step"}, "mine.py": {"x"}}


def test_own_code_may_have_the_name_of_a_standard_module(project: Project):
    """Whoever comes first on the path is imported."""
    project.write({"steps.py": "import statistics\ndef step(x): return statistics.mean(x)",
                   "statistics.py": "def mean(x): return 1"})  # fmt: skip
    assert set(project.code()) == {"steps.py", "statistics.py"}


def test_libraries_do_not_count_as_code(project: Project):
    project.write(
        {"steps.py": "import json, not_installed.at_all\ndef step(): return json, not_installed"}
    )
    assert set(project.code()) == {"steps.py"}


def test_folders_are_searched_in_order(tmp_path: Path):
    one, other = Project(tmp_path / "one"), Project(tmp_path / "other")
    one.write({"steps.py": "import helper, only\ndef step(): return helper.x, only.x",
               "helper.py": "x = 1"})  # fmt: skip
    other.write({"helper.py": "x = 2", "only.py": "x = 3"})

    def code() -> Code:
        return closure_of([Start("steps", "step")], Modules([one.root, other.root])).code

    before = code()
    assert set(before) == {"steps.py", "helper.py", "only.py"}
    (one.root / "helper.py").unlink()
    assert said(before, code()) == ["code changed: helper.py (x)"]


def test_a_relative_import_outside_of_any_package_leads_nowhere(tmp_path: Path):
    project = Project(tmp_path / "project")
    project.write({"steps.py": "from . import x\nfrom ... import y\ndef step(): return x, y",
                   "__init__.py": "x = z = 1"})  # fmt: skip
    (tmp_path / "project.py").write_text("not ours")
    assert set(project.code()) == {"steps.py"}


def test_no_code_runs(project: Project):
    project.write({"steps.py": "import helper\ndef step(): return 1",
                   "helper.py": "raise SystemExit('was run')"})  # fmt: skip
    assert set(project.code()) == {"steps.py", "helper.py"}


def test_the_source_need_not_be_utf8(project: Project):
    source = "# coding: latin-1\ndef step(): return 'ä'\n"
    (project.root / "steps.py").write_bytes(source.encode("latin-1"))
    project.write({"far/copy.py": "def step(): return 'ä'\n"})
    assert project.code()["steps.py"] == project.code("far.copy")["far/copy.py"]


def test_a_module_that_is_not_there(project: Project):
    with pytest.raises(ModuleNotFoundError, match="expected the source of module 'nowhere'"):
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


def code_of(name: str, folder: Path) -> Code:
    return closure_of([Start(name)], Modules([folder])).code


def write_modules(folder: Path, count: int) -> list[str]:
    source = (Path(__file__).resolve()).read_text(encoding="utf-8")
    names = [f"module_{number}" for number in range(count)]
    for name in names:
        (folder / f"{name}.py").write_text(f"{source}\n{name} = 1\n", encoding="utf-8")
    return names


def test_threads_may_read_at_once(tmp_path: Path):
    names = write_modules(tmp_path, 24)
    with restless(), ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda name: code_of(name, tmp_path), names))
    assert [set(code) for code in found] == [{f"{name}.py"} for name in names]


def test_threads_may_open_arrays_meanwhile(tmp_path: Path):
    """NumPy parses, too: a .npy file's header is a Python literal."""
    names = write_modules(tmp_path, 12)
    write_npy(tmp_path / "array.npy", np.arange(5))
    with restless(), ThreadPoolExecutor(6) as pool:
        read = [pool.submit(code_of, name, tmp_path) for name in names]
        opened = [pool.submit(read_npy, tmp_path / "array.npy") for _ in range(200)]
        assert [set(each.result()) for each in read] == [{f"{name}.py"} for name in names]
        assert all(each.result().tolist() == [0, 1, 2, 3, 4] for each in opened)


def linger(_phase: str, _info: object) -> None:
    sum(range(50))
