import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from digitflow.storage.code import digest as code
from digitflow.storage.code import memo as code_memo
from digitflow.storage.code.digest import Start, closure_of
from digitflow.storage.code.memo import CodeMemo
from digitflow.storage.code.modules import Modules
from digitflow.storage.code.syntax import Summary

SOURCES = {
    "steps.py": "from tools import double\nSTEPS = 3\n\ndef run(x):\n    return double(x)\n",
    "tools.py": '"""Tools."""\n\ndef double(x):\n    return 2 * x\n',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, source in SOURCES.items():
        (folder / name).write_text(source)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store" / "code.json"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules that are parsed."""
    names: list[str] = []
    real = code._read.__wrapped__

    def read(source: bytes, name: str, is_package: bool) -> Summary:
        names.append(name)
        return real(source, name, is_package)

    monkeypatch.setattr(code, "_read", read)
    return names


def code_of(module: str, folders: list[Path], memo: CodeMemo | None = None) -> code.Code:
    return closure_of([Start(module)], Modules(folders), (), memo).code


def digest(project: Path, file: Path) -> code.Code:
    """The code of `steps`, as a new process would find it, which then remembers."""
    memo = CodeMemo(file)
    found = code_of("steps", [project], memo=memo)
    memo.save()
    return found


def test_unchanged_sources_are_not_parsed_again(project: Path, file: Path, parsed: list[str]):
    plain = code_of("steps", [project])
    del parsed[:]
    assert digest(project, file) == plain
    assert sorted(parsed) == ["steps", "tools"]
    assert digest(project, file) == plain
    assert sorted(parsed) == ["steps", "tools"]


def test_an_edited_source_is_noticed_whatever_its_time_says(project: Path, file: Path):
    before = digest(project, file)
    edited = project / "tools.py"
    status = edited.stat()
    edited.write_text(SOURCES["tools.py"].replace("2 * x", "3 * x"))
    os.utime(edited, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = digest(project, file)
    assert after == code_of("steps", [project])
    assert after["tools.py"] != before["tools.py"]
    assert after["steps.py"] == before["steps.py"]
    edited.write_text(SOURCES["tools.py"])
    assert digest(project, file) == before


def test_the_same_source_under_another_name_imports_something_else(tmp_path: Path, file: Path):
    for package in ("one", "other"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("from . import part\n")
        (tmp_path / package / "part.py").write_text(f"NAME = {package!r}\n")
    for package in ("one", "other", "one"):
        memo = CodeMemo(file)
        assert code_of(package, [tmp_path], memo=memo) == code_of(package, [tmp_path])
        memo.save()


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"[" * 100_000),
        lambda file: file.write_bytes(file.read_bytes()[:-9]),
        lambda file: file.write_text(file.read_text().replace("run", "ruN")),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: (file.unlink(), os.mkfifo(file)),
    ],
)
def test_a_damaged_memo_is_as_good_as_none(
    project: Path, file: Path, parsed: list[str], damage: Callable[[Path], object]
):
    plain = digest(project, file)
    damage(file)
    del parsed[:]
    assert digest(project, file) == plain
    assert sorted(parsed) == ["steps", "tools"]


def test_another_python_or_another_way_of_looking_asks_again(
    project: Path, file: Path, parsed: list[str], monkeypatch: pytest.MonkeyPatch
):
    digest(project, file)
    del parsed[:]
    monkeypatch.setattr(code_memo, "_observer", lambda: "another")
    digest(project, file)
    assert sorted(parsed) == ["steps", "tools"]


def test_looking_writes_nothing(project: Path, file: Path):
    code_of("steps", [project], memo=CodeMemo(file))
    assert not file.parent.exists()


def test_a_store_that_cannot_be_written_costs_only_time(project: Path, tmp_path: Path):
    (tmp_path / "store").write_text("a file")
    assert digest(project, tmp_path / "store" / "code.json") == code_of("steps", [project])


def test_it_does_not_grow_for_ever(
    project: Path, file: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
):
    monkeypatch.setattr(code_memo, "_MAX_SOURCES", 3)
    for number in range(5):
        (project / "tools.py").write_text(f"def double(x):\n    return {number} * x\n")
        digest(project, file)
    assert len(code_memo._load(file)) <= 3
    del parsed[:]
    digest(project, file)
    assert parsed == []


def test_it_is_told_by_python_and_by_the_reader_of_code():
    script = "from digitflow.storage.code.memo import _observer; print(_observer())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == code_memo._observer().strip()
    assert sys.version in done.stdout
