"""The code of a commit, in a folder of its own, and an environment with that commit's packages."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from digitflow.storage.code.commit import git

_SECONDS_TO_CHECK_OUT = 120.0
_SECONDS_TO_INSTALL = 1_800.0
_REQUIREMENTS = "requirements.txt"


class CodeBaseError(Exception):
    """The packages of a commit cannot be installed."""


@dataclass(frozen=True)
class CodeBase:
    """Code to run, and what runs it.

    Attributes
    ----------
    name
        For people.
    project
        Its folder; None for the code that is here.
    python
        Interpreter.
    """

    name: str
    project: Path | None
    python: str


class CodeBases:
    """Worktrees of commits, and their environments: made when they are asked for, and removed.

    Parameters
    ----------
    repository
        Folder of the repository.
    folder
        Where they are made.
    venv
        Whether each has an environment of its own, from its ``requirements.txt``.
    """

    def __init__(self, repository: Path, folder: Path, *, venv: bool = False) -> None:
        self._repository = repository
        self._folder = folder
        self._venv = venv
        self._here: CodeBase | None = None
        self._made: dict[str, CodeBase | None] = {}

    def __enter__(self) -> CodeBases:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for base in self._made.values():
            if base is not None and base.project is not None:
                remove = ("worktree", "remove", "--force", str(base.project))
                git(self._repository, *remove, seconds=_SECONDS_TO_CHECK_OUT)

    def here(self) -> CodeBase:
        """Return the code that is here."""
        if self._here is None:
            python = self._python("here", self._repository)
            self._here = CodeBase("the code that is here", None, python)
        return self._here

    def at(self, commit: str) -> CodeBase | None:
        """Return the code of a commit, or None if it is on no branch here, or cannot be had."""
        if commit not in self._made:
            project = self._folder / f"commit-{commit[:12]}"
            add = ("worktree", "add", "--detach", str(project), commit)
            if (
                not self._is_ours(commit)
                or git(self._repository, *add, seconds=_SECONDS_TO_CHECK_OUT) is None
            ):
                self._made[commit] = None
            else:
                # Noted at once, so that it is removed whatever becomes of its packages.
                base = self._made[commit] = CodeBase(f"commit {commit[:12]}", project, "")
                python = self._python(commit[:12], project)
                self._made[commit] = CodeBase(base.name, project, python)
        return self._made[commit]

    def _is_ours(self, commit: str) -> bool:
        """Tell whether a commit is checked out or on a branch of ours.

        Who can write to the store names commits. What was only fetched may be anybody's code.
        """
        if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
            return False
        if git(self._repository, "merge-base", "--is-ancestor", commit, "HEAD") is not None:
            return True
        return bool(git(self._repository, "branch", "--contains", commit))

    def _python(self, name: str, project: Path) -> str:
        """Return the interpreter for a project: this one, or one with its packages."""
        if not self._venv:
            return sys.executable
        requirements = project / _REQUIREMENTS
        if not requirements.is_file():
            message = f"--venv: expected the packages of {project} in {requirements}, found no file"
            raise CodeBaseError(message)
        folder = self._folder / f"venv-{name}"
        python = folder / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)]
        for command in ([sys.executable, "-m", "venv", str(folder)], pip):
            try:
                subprocess.run(  # noqa: S603 - our own commands
                    command,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_SECONDS_TO_INSTALL,
                )
            except subprocess.TimeoutExpired as error:
                message = f"{requirements} was not installed within {_SECONDS_TO_INSTALL:g} s"
                raise CodeBaseError(message) from error
            except subprocess.CalledProcessError as error:
                said = error.stderr.decode(errors="replace").strip().rpartition("\n")[2]
                message = f"{requirements} could not be installed: {said}"
                raise CodeBaseError(message) from error
        return str(python)
