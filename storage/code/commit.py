"""Which commit a source is of, as git tells it."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

COMMIT = "commit"  # in what a record says that it was made with
DIRTY = "-dirty"

_SECONDS_TO_ASK_GIT = 10.0


@cache
def commit_of(file: Path) -> str:
    """Return the commit that is checked out where a file lies, asked once in a process.

    Returns
    -------
    str
        40 hexadecimal digits; with ``-dirty`` behind them if anything that git knows of there is
        not as committed; empty if git does not know the file, or there is no git.
    """
    folder = file.resolve().parent
    if git(folder, "ls-files", "--error-unmatch", "--", file.resolve().name) is None:
        return ""  # in somebody's repository by chance, as an environment below a project
    return _described(folder)


@cache
def _described(folder: Path) -> str:
    options = ("--always", "--abbrev=40", "--exclude=*", f"--dirty={DIRTY}")
    return (git(folder, "describe", *options) or "").strip()


def git(folder: Path, *arguments: str, seconds: float = _SECONDS_TO_ASK_GIT) -> str | None:
    """Return what git answers in a folder, or None if it fails, or takes longer than so long."""
    # A hook's own repository is not the one that is asked about.
    environment = {name: text for name, text in os.environ.items() if name[:4] != "GIT_"}
    try:
        done = subprocess.run(  # noqa: S603 - git, with our own arguments
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],  # noqa: S607
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=seconds,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")
