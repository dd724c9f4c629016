"""git is asked of a repository that somebody else has configured: it executes nothing of that."""

import os
import subprocess
from pathlib import Path

import pytest

from digitflow.storage.code.commit import commit_of
from digitflow.tasks.recomputation.code_base import CodeBases
from tests.patience import PATIENCE

HOOKS = ("post-checkout", "post-index-change", "reference-transaction", "pre-commit")


def git(folder: Path, *arguments: str | bytes) -> str:
    identity = ("-c", "user.name=Anna", "-c", "user.email=anna@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    return done.stdout.decode()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "stage.py").write_text("x = 1\n")
    (folder / ".gitattributes").write_text(
        "*.py filter=a=b\n*.txt filter=caf\udce9\n", errors="surrogateescape"
    )
    (folder / "note.txt").write_text("note\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "a state")
    return folder


def make_hostile(repository: Path, canary: Path) -> None:
    """Have git execute something wherever a repository can ask it to."""
    script = repository.parent / "script"
    script.write_text(f"#!/bin/sh\necho $0 $* >> {canary}\ncat\n")
    script.chmod(0o755)
    for hooks in (repository / ".git" / "hooks", repository / "hooks"):
        hooks.mkdir(exist_ok=True)
        for name in HOOKS:
            (hooks / name).symlink_to(script)
    git(repository, "config", "extensions.worktreeConfig", "true")
    git(repository, "config", "core.fsmonitor", str(script))
    git(repository, "config", "core.hooksPath", str(repository / "hooks"))
    (repository / ".git" / "more").write_text(f'[filter "a=b"]\n\tsmudge = {script}\n\trequired\n')
    git(repository, "config", "include.path", "more")
    git(repository, "config", "--worktree", "filter.a=b.clean", str(script))
    for each in ("clean", "smudge"):
        git(repository, "config", b"filter.caf\xe9." + each.encode(), str(script))


def test_a_repositorys_configuration_executes_nothing(repository: Path, tmp_path: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    canary = tmp_path / "executed"
    make_hostile(repository, canary)
    for name in ("stage.py", "note.txt"):  # which looks changed, so that it is read
        os.utime(repository / name, (0, 0))
    assert commit_of(repository / "stage.py") == commit
    with CodeBases(repository, tmp_path) as bases:
        base = bases.at(commit)
        assert base is not None
        assert base.project is not None
        assert (base.project / "stage.py").read_text() == "x = 1\n"
    assert not canary.exists(), canary.read_text()
    # It is asked for: git itself would.
    git(repository, "diff", "--quiet", "HEAD")
    assert {Path(line.split()[0]).name for line in canary.read_text().splitlines()} == {"script"}


def test_what_is_not_committed_is_said(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD").strip()
    (repository / "note.txt").write_text("changed\n")
    assert commit_of(repository / "stage.py") == f"{commit}-dirty"
    (repository / "new.py").write_text("")
    assert commit_of(repository / "new.py") == ""
    assert commit_of(repository.parent / "stage.py") == ""
