"""What is recorded is what ran: code that changes while it is loaded, or by hand."""

import importlib
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from digitflow.storage.errors import CodeChangedError
from digitflow.storage.store import Store
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]

Write = Callable[..., Path]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(name: str, source: str) -> Path:
        path = folder / name
        path.write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        return path

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("own"):
            del sys.modules[name]


STEPS = """
    from own_helper import double
    from digitflow import stage

    @stage(outputs={"x": "json"})
    def own(*, x: int):
        return {"x": double(x)}
    """


@pytest.fixture
def steps(write: Write) -> ModuleType:
    write("own_helper.py", "def double(x): return 2 * x\n")
    write("own_steps.py", STEPS)
    return importlib.import_module("own_steps")


def run(steps: ModuleType, store: Store, x: int = 4) -> tuple[int, bool]:
    """Run the stage; return what came out, and whether it was cached."""
    result = steps.own.run(store, "own", {}, {"x": x}, run="r")
    return store.read(result.outputs["x"]), result.cached


PATCH = """
def patch(function, code):
    found = {}
    exec(code, function.__globals__, found)
    function.__code__ = found[function.__name__].__code__
"""


def afresh() -> ModuleType:
    """Load the modules as a new process would."""
    for name in [name for name in sys.modules if name.startswith("own")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    return importlib.import_module("own_steps")


def test_a_helper_that_is_edited_between_import_and_run(
    steps: ModuleType, store: Store, write: Write
):
    write("own_helper.py", "def double(x): return 3 * x\n")
    assert run(steps, store) == (8, False)
    assert run(steps, store) == (8, True)
    # What ran was the old code, and so the record is the old code's.
    assert run(afresh(), store) == (12, False)
    write("own_helper.py", "def double(x): return 2 * x\n")
    assert run(afresh(), store) == (8, True)


def test_a_stage_that_is_edited_between_import_and_run(
    steps: ModuleType, store: Store, write: Write
):
    write("own_steps.py", STEPS.replace("double(x)}", "-double(x)}"))
    assert run(steps, store) == (8, False)
    assert run(afresh(), store) == (-8, False)


LATE = """
    from pathlib import Path
    from digitflow import stage

    @stage(outputs={"x": "json"})
    def own(*, x: int):
        %s
        from own_helper import double
        %s
        return {"x": double(x)}
    """
EDIT = 'Path(__file__).with_name("own_helper.py").write_text("def double(x): return 3 * x\\n")'


def test_what_is_edited_before_a_running_stage_imports_it_is_not_recorded(
    write: Write, store: Store
):
    helper = write("own_helper.py", "def double(x): return 2 * x\n")
    write("own_steps.py", LATE % (EDIT, "pass"))
    steps = importlib.import_module("own_steps")
    with pytest.raises(CodeChangedError, match=r"own_helper.py \(double\)\. Nothing was recorded"):
        run(steps, store)
    assert not list(store.records.of_stage("own"))
    # And it is right when it is asked again, here and elsewhere.
    assert run(steps, store) == (12, False)
    helper.write_text("def double(x): return 2 * x\n")
    with pytest.raises(CodeChangedError):
        run(afresh(), store)


def test_what_is_edited_after_a_running_stage_imported_it_is_recorded_as_it_ran(
    write: Write, store: Store
):
    helper = write("own_helper.py", "def double(x): return 2 * x\n")
    write("own_steps.py", LATE % ("pass", EDIT))
    assert run(importlib.import_module("own_steps"), store) == (8, False)
    helper.write_text("def double(x): return 2 * x\n")
    assert run(afresh(), store) == (8, True)


def test_what_nobody_loaded_is_looked_at_again(write: Write, store: Store):
    helper = write("own_helper.py", "def double(x): return 2 * x\n")
    write("own_steps.py", LATE % ("pass", "pass"))
    steps = importlib.import_module("own_steps")
    before = steps.own.key({}, {"x": 4}).digest()
    helper.write_text("def double(x): return 3 * x\n")
    assert steps.own.key({}, {"x": 4}).digest() != before
    assert run(steps, store) == (12, False)


def test_a_cosmetic_edit_during_a_run_matters_to_nobody(write: Write, store: Store):
    write("own_helper.py", "def double(x): return 2 * x\n")
    write("own_steps.py", LATE % (EDIT.replace("3 * x", "2 * x  # twice"), "pass"))
    assert run(importlib.import_module("own_steps"), store) == (8, False)


def test_a_prompt_goes_on() -> None:
    """What is typed there is executed with no Python code below it."""
    typed = "import digitflow\ndigitflow.stage\nx = 6 * 7\nprint('x is', x)\n"
    done = subprocess.run(
        [sys.executable, "-i"],
        input=typed,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert "x is 42" in done.stdout, done.stderr


class TestLoadedAgain:
    def test_a_helper_alone_leaves_the_stage_with_the_earlier_one(
        self, steps: ModuleType, store: Store, write: Write
    ):
        assert run(steps, store) == (8, False)
        write("own_helper.py", "def double(x): return 3 * x\n")
        importlib.reload(sys.modules["own_helper"])
        # As Python has it: `from own_helper import double` was not done again.
        assert run(steps, store) == (8, False)
        assert run(afresh(), store) == (12, False)

    def test_a_helper_that_is_asked_by_its_module(self, store: Store, write: Write):
        write("own_helper.py", "def double(x): return 2 * x\n")
        source = STEPS.replace("from own_helper import double", "import own_helper")
        write("own_steps.py", source.replace("double(x)}", "own_helper.double(x)}"))
        steps = importlib.import_module("own_steps")
        assert run(steps, store) == (8, False)
        write("own_helper.py", "def double(x): return 3 * x\n")
        assert run(steps, store) == (8, True)
        importlib.reload(sys.modules["own_helper"])
        assert run(steps, store) == (12, False)
        assert run(afresh(), store) == (12, True)

    def test_functions_that_are_changed_in_place(
        self, steps: ModuleType, store: Store, write: Write
    ):
        """As IPython's autoreload does: the function stays, and its code is the new one's."""
        assert run(steps, store) == (8, False)
        earlier = steps.double
        write("own_helper.py", "def double(x): return 3 * x\n")
        helper = importlib.reload(sys.modules["own_helper"])
        earlier.__code__ = helper.double.__code__
        helper.double = earlier
        assert run(steps, store) == (12, False)
        assert run(afresh(), store) == (12, True)

    def test_functions_that_are_compiled_alone(self, steps: ModuleType, store: Store, write: Write):
        """As autoreload does since IPython 9, under the name of the file; it executes no module."""
        ipython: dict[str, Any] = {"__name__": "IPython.extensions.deduperreload.deduperreload"}
        exec(PATCH, ipython)
        assert run(steps, store) == (8, False)
        for factor in (3, 5):
            definition = f"def double(x): return {factor} * x\n"
            path = write("own_helper.py", f"# Edited.\n{definition}")
            ipython["patch"](steps.double, compile(definition, path, "exec"))
            assert run(steps, store) == (4 * factor, False)
            assert run(steps, store) == (4 * factor, True)
        assert run(afresh(), store)[0] == 20

    def test_who_holds_an_earlier_stage_has_the_later_one(
        self, steps: ModuleType, store: Store, write: Write
    ):
        own = steps.own
        assert run(steps, store) == (8, False)
        write("own_steps.py", STEPS.replace("double(x)}", "-double(x)}"))
        importlib.reload(steps)
        result = own.run(store, "own", {}, {"x": 4}, run="r")
        assert (store.read(result.outputs["x"]), result.cached) == (-8, False)
        assert own(x=4) == {"x": -8}
        assert run(steps, store) == (-8, True)


class TestByHand:
    def test_a_replaced_helper_is_another(
        self, steps: ModuleType, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        assert run(steps, store) == (8, False)
        with monkeypatch.context() as patched:
            patched.setattr(steps, "double", lambda x: 100)
            assert run(steps, store) == (100, False)
            assert run(steps, store) == (100, True)
            patched.setattr(steps, "double", lambda x: 101)
            assert run(steps, store) == (101, False)
        assert run(steps, store) == (8, True)

    def test_what_cannot_be_told_from_another_is_never_served(
        self, steps: ModuleType, store: Store, monkeypatch: pytest.MonkeyPatch
    ):
        class Fake:
            def __call__(self, x: int) -> int:
                return 100

        monkeypatch.setattr(steps, "double", Fake())
        assert run(steps, store) == (100, False)
        assert run(steps, store) == (100, False)

    def test_a_constant_that_is_set(
        self, store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
    ):
        write("own_helper.py", "K = 2\nR = []\ndef double(x):\n    R.append(x)\n    return K * x\n")
        write("own_steps.py", STEPS)
        steps = importlib.import_module("own_steps")
        assert run(steps, store) == (8, False)
        monkeypatch.setattr(sys.modules["own_helper"], "K", 3)
        assert run(steps, store) == (12, False)
        assert run(steps, store) == (12, True)
        monkeypatch.undo()

    def test_a_method_that_is_replaced(
        self, store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
    ):
        source = """
            class Walker:
                @property
                def pace(self): return 2
                @staticmethod
                def walk(x): return 2 * x

            def double(x): return Walker.walk(x)
            """
        write("own_helper.py", source)
        write("own_steps.py", STEPS)
        steps = importlib.import_module("own_steps")
        assert run(steps, store) == (8, False)
        walker = sys.modules["own_helper"].Walker
        monkeypatch.setattr(walker, "walk", staticmethod(lambda x: 3 * x))
        assert run(steps, store) == (12, False)


class TestIdentity:
    HEAD = "from functools import wraps\nfrom digitflow import stage\nX = {'x': 'json'}\n"

    def load(self, write: Write, source: str) -> ModuleType:
        write("own_steps.py", self.HEAD + textwrap.dedent(source))
        return importlib.import_module("own_steps")

    def test_two_factories_may_define_a_stage_of_one_name(self, write: Write, store: Store):
        module = self.load(
            write,
            """
            def one():
                @stage(outputs=X)
                def f(*, n: int): return {'x': n}
                return f
            def other():
                @stage(outputs=X)
                def f(*, n: int): return {'x': -n}
                return f
            class A:
                @staticmethod
                def f(*, n: int): return {'x': 2 * n}
            class B:
                @staticmethod
                def f(*, n: int): return {'x': 3 * n}
            stages = [one(), other(), stage(outputs=X)(A.f), stage(outputs=X)(B.f)]
            """,
        )
        results = [each.run(store, "f", {}, {"n": 1}, run="r") for each in module.stages]
        assert [store.read(each.outputs["x"]) for each in results] == [1, -1, 2, 3]

    def test_a_factory_may_be_called_again(self, write: Write, store: Store):
        module = self.load(
            write,
            """
            def make(n):
                @stage(outputs=X)
                def f(*, n: int = n): return {'x': n}
                return f
            stages = [make(1), make(2)]
            """,
        )
        results = [each.run(store, "f", {}, {}, run="r") for each in module.stages]
        assert [store.read(each.outputs["x"]) for each in results] == [1, 2]

    def test_two_different_stages_of_one_name_in_a_module_are_refused(self, write: Write):
        says = r"there are two of own_steps:f, at the lines 5 and 8 of .*give one of them another"
        with pytest.raises(TypeError, match=says):
            self.load(
                write,
                """
                @stage(outputs=X)
                def f(*, n: int): return {'x': n}
                g = f
                @stage(outputs=X)
                def f(*, n: int): return {'x': -n}
                """,
            )

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            (
                """
                f = lambda *, n: {'x': n}
                f.__name__ = f.__qualname__ = 'f'
                stage(outputs=X)(f)
                """,
                "stage f: its function is called <lambda> where it is defined",
            ),
            (
                """
                def around(model):
                    def decorate(function):
                        @wraps(function)
                        def wrapper(**given): return {'x': model}
                        return wrapper
                    return decorate
                @stage(outputs=X)
                @around(object())
                def f(*, n: int): return {'x': n}
                """,
                "its wrapper around.<locals>.decorate.<locals>.wrapper takes model from the",
            ),
            (
                """
                def around(function):
                    @wraps(function)
                    def wrapper(**given): return function(**given)
                    return wrapper
                def make(n):
                    @stage(outputs=X)
                    @around
                    def f(): return {'x': n}
                make(1)
                """,
                "stage f: it takes n from the function around it; make parameters of it",
            ),
        ],
    )
    def test_what_no_source_says_is_refused(self, write: Write, source: str, says: str):
        with pytest.raises(TypeError, match=says):
            self.load(write, source)

    def test_what_a_decorator_was_given_counts(self, write: Write, store: Store):
        module = self.load(
            write,
            """
            def times(count):
                def decorate(function):
                    @wraps(function)
                    def wrapper(**given): return {'x': count * function(**given)['x']}
                    return wrapper
                return decorate
            def f(*, n: int): return {'x': n}
            stages = [stage(outputs=X)(times(count)(f)) for count in (2, 3)]
            """,
        )
        results = [each.run(store, "f", {}, {"n": 1}, run="r") for each in module.stages]
        assert [store.read(each.outputs["x"]) for each in results] == [2, 3]


def test_what_is_typed_into_an_interpreter_is_refused_at_once(tmp_path: Path):
    script = "from digitflow import stage\n@stage(outputs={'x': 'json'})\ndef f(): ...\n"
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    says = "stage f: its source is in no file (<stdin>); save it in one and import it"
    assert says in done.stderr


# A notebook's cells, as IPython executes them: each a source that only `linecache` knows.
NOTEBOOK = """
import linecache, sys
from pathlib import Path
from digitflow.storage.store import Store

store, cells = Store(Path(sys.argv[1])), 0

def cell(source):
    global cells
    cells += 1
    name = f"<ipython-input-{cells}-0>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), globals())

def run():
    result = f.run(store, "f", {}, {"n": 4}, run="r")
    print(store.read(result.outputs["x"]), result.cached)

STAGE = "@stage(outputs={'x': 'json'})\\ndef f(*, n: int):\\n    return {'x': K * half(n)}\\n"
cell("from digitflow import stage\\nimport digitflow.tasks.agg")  # which looks at sys.modules
cell("K = 2\\ndef half(n):\\n    return n / 2\\n")
cell(STAGE)
run()                                       # 4
run()                                       # 4, cached
cell(STAGE)
cell("print('looked at', K)")
run()                                       # 4, cached
cell("import io\\nseen = io.StringIO(str(K))\\nfor each in map(half, [2]): seen.write(str(each))")
run()                                       # 4, cached
cell("def half(n):\\n    return n // -2\\n")
run()                                       # -4
cell("K = 3")
run()                                       # -6
K = 4
run()                                       # -8
g = f
cell(STAGE.replace("K *", "K +"))
assert g is not f and g(n=4) == f(n=4) == {"x": 2}
run()                                       # 2
cell("import numpy as np\\nK = np.arange(3)")
run()
"""


def test_a_notebook(tmp_path: Path):
    (tmp_path / "notebook.py").write_text(NOTEBOOK)
    done = subprocess.run(
        [sys.executable, tmp_path / "notebook.py", tmp_path / "store"],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "4.0 False", "4.0 True", "looked at 2", "4.0 True", "4.0 True", "-4 False", "-6 False",
        "-8 False", "2 False",
    ]  # fmt: skip
    assert "stage f uses K of the notebook, a ndarray; hand it over as an input" in done.stderr
