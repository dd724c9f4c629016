"""Open what the store holds, and nothing else that lies in its place.

Whoever can write into the store could put a link there that leads elsewhere, or a pipe, on which
a reader waits for ever.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)


class NotRegularError(OSError):
    """Something else than a file lies in a file's place."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises
    ------
    NotRegularError
        If it is a link, a folder, a pipe or a device.
    OSError
        If it cannot be read.
    """
    _check(path.lstat().st_mode, path)
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor).st_mode, path)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a device"
        raise NotRegularError(errno.EINVAL, f"expected a regular file, found {kind}", str(path))
