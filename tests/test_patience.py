"""No test is about how long something takes, and none waits for less than is long everywhere."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mnist import ROOT
from tests.patience import wait_for

TESTS = sorted((ROOT / "tests").rglob("*.py"))
# The one deadline, and kills at moments that are drawn at random.
CLOCKS = {"tests/patience.py", "tests/faults/killing.py"}


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the place, the name and the node of every call in a file."""
    name = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), name)):
        if isinstance(node, ast.Call):
            yield f"{name}:{node.lineno}", ast.unparse(node.func), node


def is_a_short_wait(name: str, call: ast.Call) -> bool:
    """Whether a call waits for so many seconds: for a thread, a process, an event, a program."""
    given: list[ast.expr] = []
    if name.endswith((".wait", ".join")) or name == "threading.Timer":
        given = call.args
    elif name in ("subprocess.run", "requests.get", "threading.Barrier"):
        given = [each.value for each in call.keywords if each.arg == "timeout"]
    constants = [each.value for each in given if isinstance(each, ast.Constant)]
    return any(isinstance(each, int | float) for each in constants)


def test_no_test_measures_time() -> None:
    measured = ("monotonic", "perf_counter", "process_time", "thread_time", "time_ns")
    found = [
        place
        for path in TESTS
        if path.relative_to(ROOT).as_posix() not in CLOCKS
        for place, name, _ in calls(path)
        if name.removeprefix("time.") in measured
    ]
    assert found == [], "expected a condition, see tests/patience.py"


def test_no_test_waits_for_a_number_of_seconds() -> None:
    found = [place for path in TESTS for place, *call in calls(path) if is_a_short_wait(*call)]
    assert found == [], "expected PATIENCE, see tests/patience.py"


def test_what_is_waited_for_is_returned_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(("", 0, "there"))
    assert wait_for(lambda: next(answers), "an answer") == "there"
    monkeypatch.setattr("tests.patience.PATIENCE", 0.0)
    with pytest.raises(TimeoutError, match="the end: not within 0 s"):
        wait_for(lambda: None, "the end")
