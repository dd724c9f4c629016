import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digitflow.storage.backends.atomic import commit_file, temporary_file, write_bytes


class CrashError(BaseException):
    """Stands for the process's death."""


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def crash(*args: Any, **kwargs: Any) -> None:
    raise CrashError


def test_writes_the_bytes_and_leaves_nothing_else(tmp_path: Path):
    target = tmp_path / "new" / "folder" / "file"
    write_bytes(target, b"one")
    write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["file"]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("step", ["pathlib.Path.write_bytes", "os.fsync", "pathlib.Path.replace"])
def test_a_crash_on_the_way_leaves_the_old_file_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None, step: str
):
    target = tmp_path / "file"
    if old is not None:
        write_bytes(target, old)
    with monkeypatch.context() as patch:
        patch.setattr(step, crash)
        with pytest.raises(CrashError):
            write_bytes(target, b"new and longer")
    assert (target.read_bytes() if target.exists() else None) == old
    # A dying process would leave its temporary file behind; one that lives sweeps it.
    assert names(tmp_path) == ([] if old is None else ["file"])


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_we_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps: list[str] = []

    def note(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            of_folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            steps.append(f"{name} folder" if of_folder else name)
            return real(*args, **kwargs)

        return noted

    monkeypatch.setattr(os, "fsync", note("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", note("rename", Path.replace))
    write_bytes(tmp_path / "file", b"x")
    assert steps == ["fsync", "rename", "fsync folder"]


def test_the_temporary_file_lies_beside_the_target_so_that_the_move_is_a_rename(tmp_path: Path):
    with temporary_file(tmp_path / "there", ".npy") as file:
        assert file.parent == tmp_path / "there"
        assert file.suffix == ".npy"
        assert file.name.startswith(".tmp-")
        file.write_bytes(b"x")
        commit_file(file, tmp_path / "there" / "final")
    assert names(tmp_path / "there") == ["final"]


def test_a_temporary_file_that_is_not_moved_is_gone(tmp_path: Path):
    with pytest.raises(CrashError), temporary_file(tmp_path):
        crash()
    assert names(tmp_path) == []


def test_others_may_read_what_was_written(tmp_path: Path):
    # mkstemp makes files that only their owner may read, and a store may be shared.
    write_bytes(tmp_path / "file", b"x")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
