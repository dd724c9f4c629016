"""Where files can be had: below an http(s) or ``file://`` URL, or in a directory.

Imported to plan a run, so it asks nothing and stays on the standard library.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from digitflow.tasks.data.datasets.dataset import DatasetError

HTTP = ("http", "https")


def check_place(place: str) -> str:
    """Return a mirror if files can be asked for there.

    Raises
    ------
    DatasetError
        If it is a URL of another kind, or not a valid one.
    """
    problem = problem_with(place)
    if problem is not None:
        # What cannot be taken apart may hold a password anywhere.
        shown = "this mirror" if "@" in place else place.partition("?")[0]
        message = f"{shown}: {problem}"
        raise DatasetError(message)
    return place


def problem_with(place: str) -> str | None:
    """Say why no file can be asked for at a mirror; None if it can."""
    if re.match(r"https?:(?!//)", place, flags=re.IGNORECASE):
        return "expected a URL such as http://host/path, found one without //"
    if "://" not in place:
        return None
    try:
        parts = urlsplit(place)
        host, _ = parts.hostname, parts.port
    except ValueError:  # what it says quotes a part of the URL, of a password perhaps
        return "not a valid URL: expected scheme://host:port/path, found host or port damaged"
    if parts.scheme not in (*HTTP, "file"):
        return f"expected http(s)://, file:// or a directory, found {parts.scheme}://"
    if parts.scheme in HTTP and not re.fullmatch(r"\S+", host or ""):
        return "not a valid URL: expected the name of a host"
    if parts.scheme == "file" and host not in (None, "localhost"):
        return f"expected file:///path, found a file URL with the host {host!r}"
    return None


def is_http(place: str) -> bool:
    """Tell whether what lies there is to be downloaded."""
    return "://" in place and urlsplit(place).scheme in HTTP


def display(place: str) -> str:
    """Return a mirror as it may be shown: without credentials and signatures."""
    if "://" not in place:
        return place
    parts = urlsplit(place)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def url_of(prefix: str, name: str) -> str:
    """Return the URL of a file below a prefix."""
    parts = urlsplit(prefix)
    # A query (of a signed prefix, say) stays behind the name.
    return parts._replace(path=parts.path.rstrip("/") + "/" + quote(name)).geturl()


def directory_of(place: str) -> Path:
    """Return the directory that a path or a ``file://`` URL names."""
    if "://" not in place:
        return Path(place).expanduser()
    return Path(url2pathname(urlsplit(place).path))


def anchored(place: str, folder: Path) -> str:
    """Return a mirror as it can be found from any folder, if files can be asked for there.

    Parameters
    ----------
    place : str
        URL prefix or path.
    folder : Path
        What a relative path starts from.

    Raises
    ------
    DatasetError
        As `check_place` does.
    """
    check_place(place)
    if "://" in place or place.startswith("~"):
        return place
    return str(absolute(folder / place))


def absolute(path: Path) -> Path:
    """Return an absolute path without ``..``, through the links that the user named.

    Links stay, so that what they lead to can be exchanged; unless a ``..`` stands behind one, where
    only what it leads to says where that goes.
    """
    spelled = path.absolute()
    plain = Path(os.path.normpath(spelled))
    return plain if plain == spelled or _same(plain, spelled) else spelled.resolve()


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return not other.exists()


def what_it_is(path: Path) -> str | None:
    """Say what lies at a path where something else is expected; None if nothing does."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return f"a link to {path.readlink()}, which is not there" if path.is_symlink() else None
    except OSError as error:  # links that lead round in a circle, say
        return (error.strerror or str(error)).lower()
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a file" if stat.S_ISREG(mode) else "not a regular file"
