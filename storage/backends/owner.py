"""Whose a store is: locks, and times of last use, are their maker's, so a path has one user."""

from __future__ import annotations

import os
from pathlib import Path

from digitflow.storage.backends.atomic import temporary_file
from digitflow.storage.backends.os_errors import USERS_SHARE_A_URL
from digitflow.storage.errors import StoreUnusableError


def refuse_anothers(root: Path) -> None:
    """Refuse to work in a folder in which another user's runs have been.

    Root is refused as well: what it left there its owner could not use any more.

    Raises
    ------
    StoreUnusableError
        Naming both users, and how they can share a store.
    """
    if not hasattr(os, "geteuid"):
        return
    runs = root / "live"  # the first that a run makes, whoever made the store's own folder
    try:
        owner = runs.stat().st_uid
    except OSError:  # none yet, or none to be seen: whoever reads or writes says so
        return
    if owner == os.geteuid():
        return
    try:
        with temporary_file(runs) as made:
            if made.stat().st_uid == owner:
                return  # a mount on which everything is one user's
    except PermissionError:
        pass
    except OSError:  # full, or read-only for everybody
        return
    message = (
        f"expected a store of {_name(os.geteuid())}, found that of {_name(owner)}: {root}. "
        f"{USERS_SHARE_A_URL}"
    )
    raise StoreUnusableError(message)


def refuse_closed(root: Path) -> None:
    """Refuse a folder that may not be read, which would else look like many things.

    Raises
    ------
    StoreUnusableError
        Naming how users can share a store.
    """
    try:
        # What is no folder is refused by whoever makes one there.
        is_open = not root.is_dir() or os.access(root, os.R_OK | os.X_OK)
    except PermissionError:
        is_open = False
    if not is_open:
        message = (
            f"expected a store that you may read, found {root}, which is closed to you. "
            f"{USERS_SHARE_A_URL}"
        )
        raise StoreUnusableError(message)


def _name(user: int) -> str:
    from pwd import getpwuid

    try:
        return getpwuid(user).pw_name
    except KeyError:  # of another machine or container
        return f"user {user}"
