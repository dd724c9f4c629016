"""Which commit a source is of, as git tells it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

COMMIT = "commit"  # in what a record says that it was made with
DIRTY = "-dirty"

_SECONDS_TO_ASK_GIT = 10.0
# What of its own configuration a repository could have executed: it may have been unpacked from
# somebody's archive, with an environment, or a project, somewhere below it.
_NOTHING_OF_ITS_OWN = {"core.fsmonitor": "false", "core.hooksPath": os.devnull}
_ANY_FILTER = ("config", "--show-scope", "--null", "--name-only", "--get-regexp")


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
    commit = (git(folder, "rev-parse", "--verify", "HEAD") or "").strip()
    # What lies in a submodule is a repository of its own, and has its own configuration.
    asked = ("diff", "--quiet", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty")
    as_committed = not commit or git(folder, *asked, "HEAD", "--") is not None
    return commit if as_committed else f"{commit}{DIRTY}"


def git(folder: Path, *arguments: str, seconds: float = _SECONDS_TO_ASK_GIT) -> str | None:
    """Return what git answers in a folder, or None if it fails, or takes longer than so long.

    Nothing that the repository's own configuration names is executed.
    """
    settings = dict(_NOTHING_OF_ITS_OWN)
    listed = _ask(folder, (*_ANY_FILTER, r"^filter\."), settings, seconds) or ""
    parts = listed.split("\0")
    for scope, name in zip(parts[::2], parts[1::2], strict=False):
        if scope in ("local", "worktree"):
            settings[name] = "false" if name.endswith(".required") else ""
    return _ask(folder, arguments, settings, seconds)


def _ask(
    folder: Path, arguments: Sequence[str], settings: Mapping[str, str], seconds: float
) -> str | None:
    # A hook's own repository is not the one that is asked about.
    environment = {name: text for name, text in os.environ.items() if name[:4] != "GIT_"}
    # Nor is a missing object fetched, by whatever program: there is no such protocol.
    environment |= {"GIT_ALLOW_PROTOCOL": "none", "GIT_CONFIG_COUNT": str(len(settings))}
    for number, (name, value) in enumerate(settings.items()):
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
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
    return os.fsdecode(done.stdout)  # names need not be text
