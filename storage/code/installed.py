"""Which installed distribution a file belongs to, and in what version, without loading any.

The answer is in the folders ``NAME-VERSION.dist-info``. `importlib.metadata` reads all of them for
it; here the likely one is asked first, because plans are to be quick.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class Distribution(NamedTuple):
    """An installed distribution."""

    name: str
    version: str


@lru_cache(maxsize=64)
def _listing(root: str) -> dict[str, Path]:
    """Return the folders that describe what is installed in a folder, by normalised name."""
    found = {}
    try:
        for each in Path(root).iterdir():
            if each.suffix in (".dist-info", ".egg-info"):
                found[_normal(each.stem.partition("-")[0])] = each
    except OSError:
        return {}
    return found


def holds_distributions(root: str) -> bool:
    """Tell whether packages are installed in a folder of the path."""
    return bool(_listing(root))


@lru_cache(maxsize=4096)
def distribution_of(root: str, file: str) -> Distribution | None:
    """Return which distribution brought a file, or None if none did.

    Parameters
    ----------
    root
        The folder of the path.
    file
        The file's path in it, with ``/``.
    """
    for folder in _likely_first(root, file.partition("/")[0].partition(".")[0]):
        if _lists(folder, file):
            name, _, version = folder.stem.partition("-")
            return Distribution(name.replace("_", "-"), version.partition("-py")[0])
    return None


def _likely_first(root: str, top: str) -> Iterator[Path]:
    folders = dict(_listing(root))
    likely = folders.pop(_normal(top), None)
    if likely is not None:
        yield likely
    named = [each for each in folders.values() if top in _top_level(each)]
    yield from named
    yield from (each for each in folders.values() if each not in named)


@lru_cache(maxsize=1024)
def _top_level(folder: Path) -> tuple[str, ...]:
    return tuple(_text(folder / "top_level.txt").split())


def _lists(folder: Path, file: str) -> bool:
    record = _text(folder / "RECORD") or _text(folder / "installed-files.txt")
    if record:
        return f"\n{file}," in f"\n{record}" or f"\n../{file}\n" in f"\n{record}"
    # What an operating system's packages install has no list.
    return file.partition("/")[0].partition(".")[0] in _top_level(folder)


@lru_cache(maxsize=32)
def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
