"""What the system says of a place that is full or cannot be written, said for people."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from digitflow.storage.errors import StorageFullError, StoreUnusableError

# A quota, and a limit on the size of files, are a full disk to whoever meets them.
_LIMITED = (errno.EDQUOT, errno.EFBIG)
_FULL = (errno.ENOSPC, *_LIMITED)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
_DENIED = (errno.EACCES, errno.EPERM)
USERS_SHARE_A_URL = (
    "A path is the store of one user; several share one by its URL, each with copies of their own: "
    "DIGITFLOW_STORE=file:///… (docs/sharing.md)"
)
# What a medium or a system that is at its end says, and what to do about it.
_FAILING = {
    errno.EIO: "its medium is failing; copy what can be read, and replace it",
    errno.EINVAL: "its file system cannot do that; name a store on a disk of this machine",
    errno.EOPNOTSUPP: "its file system knows no locks; name a store on a disk of this machine",
    errno.ENOLCK: "its file system gives no locks; start its lock service (NFS: rpc.statd), or "
    "name a store on a disk of this machine",
    errno.EMFILE: "this process has too many files open; raise the limit (ulimit -n)",
    errno.ENFILE: "this machine has too many files open; end what holds them",
    errno.ELOOP: "a link there leads to itself; delete it",
}
_WHAT_TO_DO = (
    "Make room (digitflow gc lists what can be deleted) and run again, or name a store "
    "elsewhere: DIGITFLOW_STORE"
)


@contextmanager
def explaining_full_disk(what: str, place: Path, needed: int | None = None) -> Iterator[None]:
    """Raise one clear error where the disk is full, and let every other error pass.

    Parameters
    ----------
    what
        What is written.
    place
        Where.
    needed
        Bytes that it takes, where that is known.

    Raises
    ------
    StorageFullError
        Naming the place, the bytes needed and those that are free.
    """
    try:
        yield
    except OSError as error:
        if not _is_full(error):
            raise
        free = _free(place)
        amount = (
            f"more is needed than the {free:,} bytes that are free"
            if needed is None
            else f"{needed:,} bytes are needed and {free:,} are free"
        )
        if error.errno in _LIMITED or (needed is not None and needed <= free):
            amount += ", but a quota, a limit on the size of files or on their number is reached"
        if error.filename is not None and error.strerror != os.strerror(error.errno or 0):
            amount = str(error.strerror)  # whoever raised it says how much
        message = f"no room for {what} in {place}: {amount}. {_WHAT_TO_DO}"
        raise StorageFullError(message) from error


@contextmanager
def explaining(what: str, place: Path, needed: int | None = None) -> Iterator[None]:
    """Raise one clear error where the disk is full or the store cannot be written at all.

    Parameters
    ----------
    what, place, needed
        As for `explaining_full_disk`.

    Raises
    ------
    StorageFullError
        If the disk is full.
    StoreUnusableError
        If the place is read-only, belongs to somebody else, or a file lies in its way.
    """
    try:
        with explaining_full_disk(what, place, needed):
            yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        where = error.filename or place
        advice = _FAILING.get(error.errno or 0)
        if error.errno == errno.EINVAL and error.strerror != os.strerror(errno.EINVAL):
            advice = None  # our own words for what is no regular file
        if advice is not None:
            message = f"{what} cannot be written: {where}: {reason}: {advice}"
            raise StoreUnusableError(message) from error
        if error.errno not in _FORBIDDEN:
            raise
        message = (
            f"{what} cannot be written: {where}: {reason}. Expected a folder that you may write; "
            "check its owner and its medium, or name a store elsewhere: DIGITFLOW_STORE"
        )
        if error.errno in _DENIED:
            message += f". {USERS_SHARE_A_URL}"
        raise StoreUnusableError(message) from error


def _is_full(error: OSError) -> bool:
    # numpy.ndarray.tofile says in words alone that the disk did not take everything.
    return error.errno in _FULL or (error.errno is None and "requested and" in str(error))


def _free(place: Path) -> int:
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free
