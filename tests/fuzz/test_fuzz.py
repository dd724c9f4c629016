"""Whatever bytes a reader is given, it reads them or refuses them, in bounded memory.

Three ways: the kept corpus, hypothesis, and short rounds of a coverage-guided fuzzer. For long
rounds see `tests.fuzz.rounds`.
"""

import importlib.util
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitflow.storage.formats.artifacts import read_artifact
from tests.fuzz import targets
from tests.fuzz.corpus import FOLDER, kept
from tests.fuzz.mutations import mutate
from tests.fuzz.rounds import TARGET_NAMES, fuzz
from tests.fuzz.targets import JSON_TARGETS, LONGEST_INPUT, MEMORY_LIMIT, TARGETS, FindingError

INPUTS = 3_000

# Where, how many bytes go, and which come in their place.
CHANGES = st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=8))

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason=f"atheris has no wheel for {sys.platform} and this Python: pip install atheris",
)


@contextmanager
def counted() -> Iterator[Callable[[], None]]:
    """Yield a check that no more than the limit was taken since it was last called."""
    tracemalloc.start()

    def check() -> None:
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert peak - before[0] < MEMORY_LIMIT, f"{peak - before[0]:,} bytes were allocated"
        before[0] = now

    before = [tracemalloc.get_traced_memory()[0]]
    try:
        yield check
    finally:
        tracemalloc.stop()


@pytest.fixture(autouse=True)
def _store_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path))


@pytest.fixture(params=TARGET_NAMES)
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_every_target_has_a_corpus():
    assert set(TARGET_NAMES) == set(TARGETS) == {file.stem for file in FOLDER.iterdir()}
    assert set(JSON_TARGETS) < set(TARGETS)
    for name in TARGET_NAMES:
        assert len(kept(name)) >= 3, name


def test_the_kept_inputs(target: str, tmp_path: Path):
    inputs = kept(target)
    TARGETS[target](inputs[0], tmp_path)  # imports what it needs
    with counted() as little_memory:
        for data in inputs:
            TARGETS[target](data, tmp_path)
            little_memory()


def test_inputs_that_hypothesis_makes(target: str, tmp_path: Path):
    seeds = kept(target)
    TARGETS[target](seeds[0], tmp_path)  # imports what it needs
    with counted() as little_memory:

        @settings(max_examples=100)
        @given(st.sampled_from(seeds), st.integers(0, 2**32), st.lists(CHANGES, max_size=3))
        def check(data: bytes, seed: int, changes: list[tuple[float, int, bytes]]) -> None:
            if target in JSON_TARGETS:
                data = mutate(data, LONGEST_INPUT, seed)
            for place, width, new in changes:
                start = int(place * len(data))
                data = data[:start] + new + data[start + width :]
            TARGETS[target](data, tmp_path)
            little_memory()

        check()


@needs_atheris
def test_a_short_round(target: str, tmp_path: Path):
    done = fuzz(target, inputs=INPUTS, new=tmp_path / "new", findings=tmp_path / "findings")
    assert done.finding is None, done.finding
    assert done.inputs >= INPUTS


@needs_atheris
@pytest.mark.parametrize(
    ("planted", "says"), [("planted-crash", "IndexError"), ("planted-memory", "MemoryError")]
)
def test_a_planted_bug_is_found(tmp_path: Path, planted: str, says: str):
    done = fuzz(planted, inputs=300 * INPUTS, new=tmp_path / "new", findings=tmp_path / "findings")
    assert done.finding is not None
    assert says in done.finding
    assert any((tmp_path / "findings").iterdir())


# The targets themselves: each is broken on purpose, and must say so.


def emptied(folder: Path) -> Path:
    for file in folder.rglob("*"):
        if file.is_file():
            file.unlink()
    return folder


def and_more(folder: Path) -> Path:
    (folder.parent.parent / "more").touch()
    return folder


def replays(target: str, folder: Path) -> None:
    for data in kept(target):
        TARGETS[target](data, folder)


@pytest.mark.parametrize(
    ("target", "broken", "by"),
    [
        ("idx", "decode", lambda *_, **__: np.zeros(3, np.uint8)),
        ("idx", "decode", lambda *_, **__: {}["key"]),
        ("idx", "label_values", lambda *_, **__: (0, set())),
        ("manifest", "read_manifest", lambda *_: object()),
        ("record", "differences", lambda old, new: old["absent"]),
        ("run", "history", object()),
        ("npy", "read_artifact", lambda *_: np.zeros(10**6)),
        ("npy", "read_artifact", lambda *_: np.array([None])),
        ("npz", "read_artifact", lambda *_: {"a": np.zeros(10**6)}),
        ("csv", "read_artifact", lambda *_: [][0]),
        ("json", "read_artifact", lambda *_: float("nan")),
        ("png", "read_artifact", lambda *_: b""),
        ("table", "read_artifact", lambda *_: pd.DataFrame({"a": [None, []]})),
        ("text", "read_artifact", lambda *_: "another"),
        ("folder", "read_artifact", lambda _, file: file.parent.parent),
        ("folder", "read_artifact", lambda _, file: emptied(read_artifact("folder", file))),
        ("folder", "read_artifact", lambda _, file: and_more(read_artifact("folder", file))),
    ],
)
def test_a_broken_reader_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, broken: str, by: object
):
    replays(target, tmp_path)
    monkeypatch.setattr(targets, broken, by)
    with pytest.raises((FindingError, LookupError, AttributeError, ValueError, EOFError)):
        replays(target, tmp_path)


@pytest.mark.parametrize("cause", [MemoryError("1 TB"), NameError("json"), ImportError("x")])
def test_a_refusal_excuses_nothing_but_the_input(cause: Exception):
    refusal = ValueError("not readable")
    targets.check_refusal(refusal)
    refusal.__cause__ = OSError("wrapped")
    refusal.__cause__.__cause__ = cause
    with pytest.raises(FindingError, match=type(cause).__name__):
        targets.check_refusal(refusal)


def test_memory_is_counted():
    with counted() as little_memory:
        bytearray(MEMORY_LIMIT // 2)
        little_memory()
        bytearray(MEMORY_LIMIT)
        with pytest.raises(AssertionError, match="bytes were allocated"):
            little_memory()
