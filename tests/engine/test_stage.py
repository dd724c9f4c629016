"""`@stage`: what is refused, what is part of the key, what a call does."""

import importlib.util
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from digitflow.storage.digests import digest_bytes
from digitflow.storage.formats.artifacts import Artifact
from digitflow.storage.store import Store
from digitflow.tasks.engine.call import Context, Handle, Ref, compute, using
from digitflow.tasks.engine.events import (
    Event,
    StageFailed,
    StageFinished,
    StageNoted,
    StageProgressed,
    StageStarted,
    StageWaiting,
    observing,
)
from digitflow.tasks.engine.plan import plan
from digitflow.tasks.engine.stage import Progress, Retries, Stage, stage
from digitflow.tasks.stages.train import train
from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
DIGEST = digest_bytes(b"archive")
calls: list[str] = []


@stage(outputs={"numbers": "npy"})
def count(*, upto: int, start: int = 0) -> dict[str, Any]:
    """Count up.

    In steps of one.
    """
    calls.append("count")
    return {"numbers": np.arange(start, upto)}


@stage(outputs={"total": "json"}, ignored=("verbose",), tags=("sums",))
def total(
    numbers: Any,
    more: Any,
    *,
    factor: int = 1,
    verbose: bool = False,
    scratch: Path,
    progress: Progress,
) -> dict[str, Any]:
    calls.append("total")
    (scratch / "trace").write_text("x")
    progress(1, 2, "halves", loss=0.5)
    progress(2, None)
    return {"total": int((numbers.sum() + more.sum()) * factor)}


@stage(outputs={"mean": "json"}, ignored=("guess",))
def mean(parts: tuple[Any, ...], guess: Any = None) -> dict[str, Any]:
    calls.append("mean" if guess is None else "mean from a guess")
    return {"mean": float(np.mean([part.mean() for part in parts]))}


@stage(outputs={"archive": "file"}, pinned={"archive": "sha256"}, ignored=("name",))
def fetch(*, sha256: str = DIGEST, name: str = "x", scratch: Path) -> dict[str, Any]:
    calls.append("fetch")
    (scratch / name).write_bytes(b"archive")
    return {"archive": scratch / name}


@stage(outputs={"x": "json"}, retries=Retries(2, worthwhile=lambda error: "503" in str(error)))
def fail(*, message: str) -> dict[str, Any]:
    raise ValueError(message)


@stage(outputs={"x": "json"})
def waiting(*, say: Callable[[str], None]) -> dict[str, Any]:
    say("the mirror is busy; asked again in 25 s")
    return {"x": 1}


@pytest.fixture
def cache(tmp_path: Path) -> Store:
    calls.clear()
    return Store(tmp_path / "store")


@pytest.fixture
def seen() -> Iterator[list[Event]]:
    events: list[Event] = []
    with observing(events.append):
        yield events


def run_total(cache: Store, **parameters: Any) -> Any:
    counted = count.run(cache, "count", {}, {"upto": 4}, run="r").outputs["numbers"]
    return total.run(cache, "total", {"numbers": counted, "more": counted}, parameters, run="r")


class TestDeclaration:
    def test_positional_parameters_are_inputs_and_keyword_only_ones_parameters(self):
        assert (total.inputs, total.parameters) == (("numbers", "more"), ("factor", "verbose"))
        assert (count.inputs, count.parameters) == ((), ("upto", "start"))
        assert (count.name, count.__name__, repr(count)) == ("count", "count", "<stage count>")
        assert count.__doc__ is not None
        assert count.__doc__.startswith("Count up.")
        assert total.tags == ("sums",)

    def test_called_directly_it_is_the_plain_function(self, cache: Store):
        np.testing.assert_array_equal(count(upto=3)["numbers"], [0, 1, 2])
        with pytest.raises(TypeError, match="upto"):
            count()
        assert not cache.root.exists()

    @pytest.mark.parametrize(
        ("source", "says"),
        [
            ("@stage(outputs={})\ndef f(): ...", "stage f: it declares no outputs"),
            (
                "@stage(outputs={'x': 'pickle'})\ndef f(): ...",
                "stage f: output x has the format 'pickle'; expected one of npy, npz, table, csv",
            ),
            ("@stage(outputs=X, ignored=('y',))\ndef f(x): ...", "stage f: y is no parameter"),
            (
                "@stage(outputs=X, ignored=('x',))\ndef f(x): ...",
                "stage f: the ignored input x may be missing; give it the default None",
            ),
            (
                "@stage(outputs=X, ignored=('scratch',))\ndef f(*, scratch): ...",
                "stage f: scratch is no parameter",
            ),
            ("@stage(outputs=X)\ndef f(**settings): ...", r"\*\*settings is neither"),
            ("@stage(outputs=X)\ndef f(*arrays): ...", r"\*arrays is neither"),
            ("@stage(outputs=X)\ndef f(x, /): ...", "x is neither an input nor"),
            ("@stage(outputs=X)\ndef f(x=None): ...", "the input x has a default"),
            ("@stage(outputs=X)\ndef f(scratch): ...", "scratch is given by name"),
            ("@stage(outputs=X)\ndef f(x, progress): ...", "progress is given by name"),
            ("@stage(outputs=X)\ndef Train(): ...", "stage Train: expected a name like"),
            ("@stage(outputs=X)\ndef _f(): ...", "stage _f: expected a name like"),
            ("stage(outputs=X)(lambda: None)", "stage <lambda>: expected a name like"),
            ("stage(outputs=X)(dict)", "expected a function to make a stage of"),
            ("@stage(outputs=X)\nasync def f(): ...", "expected a function to make a stage of"),
            (
                "def make(n):\n    @stage(outputs=X)\n    def f(): return {'x': n}\nmake(1)",
                "stage f: it takes n from the function around it; make parameters of it",
            ),
            (
                "@stage(outputs={'a': 'file', 'b': 'file'}, pinned={'a': 's'})\ndef f(*, s): ...",
                "all of its outputs or none can be pinned",
            ),
            (
                "@stage(outputs={'a': 'npy'}, pinned={'a': 's'})\ndef f(*, s): ...",
                "pinned, and only files",
            ),
            (
                "@stage(outputs={'a': 'file'}, pinned={'b': 's'})\ndef f(*, s): ...",
                "all of its outputs or none can be pinned",
            ),
            (
                "@stage(outputs={'a': 'file'}, pinned={'a': 't'})\ndef f(*, s): ...",
                "stage f: t is no parameter of it",
            ),
            (
                "@stage(outputs={'a': 'file'}, pinned={'a': 's'}, ignored=('s',))\n"
                "def f(*, s): ...",
                "what promises a digest cannot be ignored",
            ),
        ],
    )
    def test_what_the_key_would_not_notice_is_refused(self, source: str, says: str):
        with pytest.raises(TypeError, match=says):
            exec(source, {"stage": stage, "X": {"x": "json"}})

    def test_a_handle_refers_to_declared_outputs_only(self):
        handle = Handle(count, "a future")
        assert handle["numbers"] == Ref("a future", "numbers")
        with pytest.raises(KeyError, match="stage count has the outputs numbers; found 'total'"):
            handle["total"]


class TestKey:
    INPUTS: Mapping[str, Artifact] = {
        "numbers": Artifact("a" * 64, 1, "npy"),
        "more": Artifact("b" * 64, 1, "npy"),
    }

    def test_defaults_are_part_of_it(self):
        given = total.key(self.INPUTS, {"factor": 1})
        assert given.parameters == {"factor": 1}
        assert total.key(self.INPUTS, {}).digest() == given.digest()
        assert total.key(self.INPUTS, {"factor": 2}).digest() != given.digest()

    def test_ignored_parameters_are_not(self):
        keys = {total.key(self.INPUTS, {"verbose": each}).digest() for each in (True, False)}
        assert len(keys) == 1

    def test_inputs_are_part_of_it_by_name_and_digest(self):
        key = total.key(self.INPUTS, {})
        assert key.inputs == {"numbers": "a" * 64, "more": "b" * 64}
        exchanged = {"numbers": self.INPUTS["more"], "more": self.INPUTS["numbers"]}
        assert total.key(exchanged, {}).digest() != key.digest()

    def test_what_is_said_of_an_artifact_is_not_part_of_it(self):
        other = {**self.INPUTS, "more": Artifact("b" * 64, 1, "npy", {"shape": [9]})}
        assert total.key(other, {}).digest() == total.key(self.INPUTS, {}).digest()

    def test_a_tuple_is_part_of_it_place_by_place(self):
        one, other = self.INPUTS.values()
        key = mean.key({"parts": (one, other)}, {})
        assert key.inputs == {"parts[0]": "a" * 64, "parts[1]": "b" * 64}
        assert mean.key({"parts": (one,)}, {}).digest() != mean.key({"parts": one}, {}).digest()

    def test_an_ignored_input_is_not(self):
        one, other = self.INPUTS.values()
        assert mean.key({"parts": (one,), "guess": other}, {}) == mean.key({"parts": (one,)}, {})

    @pytest.mark.parametrize(
        ("inputs", "parameters"),
        [
            ({}, {}),
            ({"numbers": INPUTS["numbers"]}, {}),
            ({**INPUTS, "extra": INPUTS["more"]}, {}),
            (INPUTS, {"faktor": 1}),
            (INPUTS, {"scratch": "x"}),
            (INPUTS, {"numbers": 1}),
            ({"numbers": INPUTS["numbers"]}, {"more": 1}),
            ({**INPUTS, "factor": INPUTS["more"]}, {}),
        ],
    )
    def test_calls_that_do_not_fit_the_signature(
        self, inputs: Mapping[str, Artifact], parameters: Mapping[str, Any]
    ):
        expected = (
            r"stage total takes the inputs \(numbers, more\) and the parameters "
            r"\(factor, verbose\): "
        )
        with pytest.raises(TypeError, match=expected):
            total.key(inputs, parameters)

    def test_a_missing_parameter(self):
        with pytest.raises(TypeError, match="missing a required .*argument: 'upto'"):
            count.key({}, {})

    def test_a_pinned_stage_needs_no_code_and_takes_the_default_of_its_promise(self, cache: Store):
        assert fetch.code == {}
        assert fetch.key({}, {}).parameters == {"sha256": DIGEST}
        outcome = fetch.run(cache, "fetch", {}, {"name": "a"}, run="r")
        assert outcome.outputs["archive"].sha256 == DIGEST
        assert fetch.look_up(cache, "fetch", {}, {"name": "b"}).record is not None
        assert "test_stage.py" in " ".join(count.code)


def test_another_process_takes_a_stage_from_its_module():
    assert pickle.loads(pickle.dumps(train)) is train


class TestRun:
    def test_computes_once_with_scratch_and_progress(self, cache: Store, seen: list[Event]):
        first = run_total(cache, factor=3)
        assert cache.read(first.outputs["total"]) == 36
        assert (first.stage, first.label, first.cached) == ("total", "total", False)
        assert first.reasons == ("never run",)
        assert not list((cache.root / "scratch").iterdir())
        second = run_total(cache, factor=3)
        assert second.cached
        assert second.outputs == first.outputs
        assert (second.key, second.reasons) == (first.key, ())
        assert calls == ["count", "total"]

    def test_reads_every_value_of_a_tuple_and_does_without_what_is_ignored(self, cache: Store):
        parts = tuple(
            count.run(cache, "count", {}, {"upto": upto}, run="r").outputs["numbers"]
            for upto in (3, 5)
        )
        for inputs in ({"parts": parts}, {"parts": parts, "guess": parts[0]}):
            done = mean.run(cache, "mean", inputs, {}, run="r", refresh=True)
            assert cache.read(done.outputs["mean"]) == 1.5
        assert calls[2:] == ["mean", "mean from a guess"]
        assert mean.run(cache, "mean", {"parts": parts}, {}, run="r").cached

    def test_says_what_happens(self, cache: Store, seen: list[Event]):
        run_total(cache)
        run_total(cache)
        of_total = [event for event in seen if event.label == "total"]
        assert of_total[:3] == [
            StageStarted("total", ("never run",)),
            StageProgressed("total", 1, 2, "halves", {"loss": 0.5}),
            StageProgressed("total", 2, None, ""),
        ]
        finished = of_total[3:]
        assert [type(event) for event in finished] == [StageFinished, StageFinished]
        assert [event.cached for event in finished if isinstance(event, StageFinished)] == [
            False,
            True,
        ]
        assert [event.reasons for event in finished if isinstance(event, StageFinished)] == [
            ("never run",),
            (),
        ]

    def test_hands_progress_to_the_caller_too(self, cache: Store):
        told: list[tuple[Any, ...]] = []
        counted = count.run(cache, "count", {}, {"upto": 4}, run="r").outputs["numbers"]
        total.run(
            cache,
            "total",
            {"numbers": counted, "more": counted},
            {},
            run="r",
            progress=lambda *args, **numbers: told.append((*args, numbers)),
        )
        assert told == [(1, 2, "halves", {"loss": 0.5}), (2, None, "", {})]

    def test_says_what_the_function_has_to_say(self, cache: Store, seen: list[Event]):
        waiting.run(cache, "waiting", {}, {}, run="r")
        assert StageNoted("waiting", "the mirror is busy; asked again in 25 s") in seen
        # Whether anybody listens decides nothing.
        assert "say" not in waiting.key({}, {}).parameters
        assert waiting(say=print) == {"x": 1}

    def test_says_again_and_again_whom_it_waits_for(
        self, cache: Store, seen: list[Event], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("digitflow.tasks.engine.stage.SECONDS_BETWEEN_SENTENCES", 0.0)
        key = count.key({}, {"upto": 3, "start": 0}).digest()
        started, free = threading.Event(), threading.Event()

        def hold() -> None:
            with cache.locks.computing(key, "patient-owl"):
                started.set()
                assert free.wait(PATIENCE)

        def show(event: Event) -> None:
            if len([each for each in seen if isinstance(each, StageWaiting)]) == 2:
                free.set()

        holder = threading.Thread(target=hold)
        holder.start()
        assert started.wait(PATIENCE)
        with observing(show):
            count.run(cache, "count", {}, {"upto": 3, "start": 0}, run="r")
        holder.join(PATIENCE)
        waits = [each for each in seen if isinstance(each, StageWaiting)]
        assert len(waits) >= 2
        assert all("run patient-owl (process " in each.reason for each in waits)
        assert all(each.reason.endswith(") is computing it") for each in waits)

    def test_refresh(self, cache: Store):
        count.run(cache, "count", {}, {"upto": 4}, run="r")
        assert count.look_up(cache, "count", {}, {"upto": 4}).record is not None
        found = count.look_up(cache, "count", {}, {"upto": 4}, refresh=True)
        assert (found.record, found.reasons) == (None, ("refresh asked for",))
        result = count.run(cache, "count", {}, {"upto": 4}, run="r", refresh=True)
        assert (result.cached, result.reasons) == (False, ("refresh asked for",))

    @pytest.mark.parametrize(("message", "tries_left"), [("503", 2), ("404", 0)])
    def test_a_failure_is_said_and_raised(
        self, cache: Store, seen: list[Event], message: str, tries_left: int
    ):
        with pytest.raises(ValueError, match=message) as raised:
            fail.run(cache, "fail", {}, {"message": message}, run="r", tries_left=2)
        assert seen == [
            StageStarted("fail", ("never run",)),
            StageFailed("fail", raised.value, tries_left),
        ]

    def test_a_damaged_input_is_a_failure_not_a_result(self, cache: Store):
        counted = count.run(cache, "count", {}, {"upto": 4}, run="r").outputs["numbers"]
        path = cache.objects.path(counted.sha256)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        from digitflow.storage.errors import ObjectDamagedError

        with pytest.raises(ObjectDamagedError):
            total.run(cache, "total", {"numbers": counted, "more": counted}, {}, run="r")

    def test_inputs_cannot_be_changed(self, cache: Store):
        counted = count.run(cache, "count", {}, {"upto": 4}, run="r").outputs["numbers"]
        with pytest.raises(ValueError, match="read-only"):
            cache.read(counted)[0] = 5


def load(path: Path, name: str | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name or path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


class TestOutsideTheRepository:
    @pytest.fixture
    def write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
        monkeypatch.syspath_prepend(str(tmp_path))

        def write(name: str, source: str) -> Path:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))
            return path

        return write

    @pytest.fixture
    def module(self, write: Callable[..., Path]) -> Path:
        write("own_helper.py", "def double(x): return 2 * x\n")
        return write(
            "own_stage.py",
            """
            from own_helper import double
            from digitflow.storage.store import Store
            from digitflow.tasks.engine.stage import stage
            from digitflow.tasks.nn.metrics import confusion_matrix

            @stage(outputs={"x": "json"})
            def own(*, x: int):
                return {"x": double(x) if confusion_matrix else 0}
            """,
        )

    @pytest.fixture(autouse=True)
    def _forget_modules(self) -> Iterator[None]:
        before = set(sys.modules)
        yield
        for name in set(sys.modules) - before:
            if name.startswith("own"):
                del sys.modules[name]

    def test_its_helpers_and_ours_count_and_what_runs_stages_does_not(self, module: Path):
        code = load(module).own.code
        assert set(code) == {
            "own_stage.py",
            "own_helper.py",
            "digitflow/tasks/nn/metrics.py",
        }
        # Only what it uses of it.
        assert not {"accuracy", "percent"} & set(code["digitflow/tasks/nn/metrics.py"])

    def test_an_edited_helper_is_noticed(self, module: Path, cache: Store):
        assert load(module).own.run(cache, "own", {}, {"x": 4}, run="r").reasons == ("never run",)
        assert load(module).own.run(cache, "own", {}, {"x": 4}, run="r").cached
        helper = module.with_name("own_helper.py")
        helper.write_text("def double(x): return x + x  # faster\n")
        del sys.modules["own_helper"]
        result = load(module).own.run(cache, "own", {}, {"x": 4}, run="r")
        assert result.reasons == ("code changed: own_helper.py (double)",)

    def test_in_a_package(self, write: Callable[..., Path]):
        write("own_package/__init__.py", "")
        write("own_package/helper.py", "def double(x): return 2 * x\n")
        path = write(
            "own_package/steps.py",
            """
            from digitflow.tasks.engine.stage import stage
            @stage(outputs={"x": "json"})
            def own(*, x: int):
                from .helper import double
                return {"x": double(x)}
            """,
        )
        importlib.invalidate_caches()
        steps = importlib.import_module("own_package.steps")
        assert set(steps.own.code) == {"own_package/steps.py", "own_package/helper.py"}
        # Loaded from its path under a name that says nothing of the package.
        # Relative imports would fail.
        assert set(load(path, "own_name").own.code) == {"steps.py"}

    @pytest.mark.parametrize(
        ("arguments", "paths"),
        [
            (["own_package/script.py"], ["script.py"]),
            (["-m", "own_package.script"], ["own_package/helper.py", "own_package/script.py"]),
        ],
    )
    def test_as_a_script(
        self, write: Callable[..., Path], tmp_path: Path, arguments: list[str], paths: list[str]
    ):
        write("own_package/helper.py", "def double(x): return 2 * x\n")
        write(
            "own_package/script.py",
            """
            from digitflow.tasks.engine.stage import stage
            try:
                import own_package.helper
            except ImportError:
                pass
            @stage(outputs={"x": "json"})
            def own(*, x: int):
                return {"x": own_package.helper.double(x)}
            print(*sorted(own.code))
            """,
        )
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == paths

    def test_a_decorated_function_is_found_where_it_was_written(self, write: Callable[..., Path]):
        write(
            "own_decorator.py",
            """
            from functools import wraps

            def twice(function):
                @wraps(function)
                def wrapped(**parameters):
                    function(**parameters)
                    return function(**parameters)
                return wrapped
            """,
        )
        path = write(
            "own_decorated.py",
            """
            from own_decorator import twice
            from digitflow.tasks.engine.stage import stage

            @stage(outputs={"x": "json"})
            @twice
            def own(*, x: int):
                return {"x": x}
            """,
        )
        own: Stage = load(path).own
        assert set(own.code) == {"own_decorated.py", "own_decorator.py"}
        assert own.parameters == ("x",)


class TestDocument:
    """The examples of docs/stages.md, exactly as they stand there."""

    @pytest.fixture
    def examples(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        write_examples(tmp_path)
        monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
        return tmp_path

    def run(self, folder: Path, script: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, folder / script],
            env={"DIGITFLOW_STORE": str(folder / "store"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    def test_ten_lines(self, examples: Path):
        lines = (examples / "powers.py").read_text().splitlines()[1:]
        assert len([line for line in lines if line.strip()]) <= 10

    def test_without_prefect(self, examples: Path):
        answer = "[ 0  1  8 27 64]"
        assert self.run(examples, "by_hand.py") == ["ran: never run", answer]
        assert self.run(examples, "by_hand.py") == ["cached", answer]
        by_hand, powers = examples / "by_hand.py", examples / "powers.py"
        by_hand.write_text(by_hand.read_text().replace("exponent=3", "exponent=4"))
        assert self.run(examples, "by_hand.py") == [
            "ran: parameter exponent 3 → 4",
            "[  0   1  16  81 256]",
        ]
        powers.write_text(powers.read_text() + "# a comment\n")
        assert self.run(examples, "by_hand.py")[0] == "cached"
        powers.write_text(powers.read_text().replace("numbers**exponent", "-(numbers**exponent)"))
        assert self.run(examples, "by_hand.py") == [
            "ran: code changed: powers.py (power)",
            "[   0   -1  -16  -81 -256]",
        ]

    def test_a_plan(self, examples: Path):
        self.run(examples, "by_hand.py")
        text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
        expected = text.partition("after a run with the exponent 3,\n\n```\n")[2].partition("```")[
            0
        ]
        assert self.run(examples, "ask.py") == expected.splitlines() != []


@stage(outputs={"powers": "npy"})
def power(numbers: Any, *, exponent: int = 2) -> dict[str, Any]:
    return {"powers": numbers**exponent}


class TestSubmit:
    """What `submit` checks, and what it means without Prefect."""

    @pytest.fixture(autouse=True)
    def _store(self, cache: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DIGITFLOW_STORE", str(cache.root))

    def test_is_computed_at_once_and_served_afterwards(self):
        first = count.submit(upto=3).result()
        assert not first.cached
        again = count.submit(upto=3).result()
        assert again.cached
        assert again.read("numbers").tolist() == [0, 1, 2]
        with pytest.raises(KeyError, match="has the outputs numbers; found 'powers'"):
            again.read("powers")

    def test_in_a_context_its_store_its_name_and_what_runs_again(self, tmp_path: Path):
        context = Context(Store(tmp_path / "other"), "mine", compute, lambda name: name == "count")
        with using(context):
            runs = [count.with_label("one").submit(upto=3).result() for _ in range(2)]
            assert runs[1].read("numbers").tolist() == [0, 1, 2]
        assert [each.cached for each in runs] == [False, False]
        assert [handle.result() for handle in context.called] == runs
        record = context.store.cache.look_up(count.key({}, {"upto": 3}), "one").record
        assert record is not None
        assert record.run == "mine"

    @pytest.mark.parametrize(
        ("inputs", "given", "problem"),
        [
            ((), {"exponent": 2}, "missing a required argument: 'numbers'"),
            (([1, 2],), {}, "input numbers: expected an output of an earlier call"),
            ((Ref(None, "numbers"), Ref(None, "numbers")), {}, "takes 1 inputs"),
            ((Ref(None, "x"),), {"numbers": Ref(None, "x")}, "multiple values for numbers"),
            ((Ref(None, "x"),), {"base": 2}, "unexpected keyword argument 'base'"),
        ],
    )
    def test_what_does_not_fit_is_refused_where_it_is_called(self, inputs, given, problem):
        with pytest.raises(TypeError, match=problem):
            power.submit(*inputs, **given)

    def test_a_plan_ends_where_the_function_needs_what_is_not_there(self, cache: Store):
        def own(upto: int) -> None:
            numbers = count.submit(upto=upto)
            if numbers.result().read("numbers").any():
                power.submit(numbers["numbers"])

        assert [each.cached for each in plan(own, 4, store=cache)] == [False]
        count.submit(upto=4)
        assert str(plan(own, 4, store=cache)) == "count: cached\npower: will run: never run"


def write_examples(folder: Path) -> None:
    """Write every Python block of the document to the file that its first line names."""
    text = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    blocks = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        name = block.splitlines()[0].removeprefix("# ")
        assert name.endswith(".py"), f"a block of docs/stages.md does not name its file: {name}"
        (folder / name).write_text(block, encoding="utf-8")
