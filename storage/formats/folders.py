"""A folder as one file: an uncompressed ZIP archive of its files, in the order of their names.

Kept are names and bytes, and folders without files; not times, owners or modes. Links are refused,
and so are names that could lead out of the folder that an archive is unpacked into.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from digitflow.storage.backends.atomic import remove
from digitflow.storage.backends.os_errors import explaining_full_disk
from digitflow.storage.errors import ArtifactError
from digitflow.storage.formats.archives import stored_members

_PIECE = 2**20  # bytes


def check_folder(value: Any) -> Path:
    """Return the path of a folder; refuse anything else."""
    if not isinstance(value, Path) or value.is_symlink() or not value.is_dir():
        message = f"expected the path of a folder, found {value!r}"
        raise ArtifactError(message)
    return value


def write_folder(path: Path, value: Path) -> dict[str, Any]:
    """Write a folder so that equal names and bytes give equal archives."""
    folder = check_folder(value)
    files = 0
    with zipfile.ZipFile(path, "w") as archive:
        for entry in sorted(_walk(folder), key=lambda entry: entry.relative_to(folder).parts):
            name = entry.relative_to(folder).as_posix()
            if entry.is_dir():
                archive.writestr(zipfile.ZipInfo(f"{name}/"), b"")
                continue
            files += 1
            info = zipfile.ZipInfo(name)  # without a time
            with entry.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, _PIECE)
    return {"name": folder.name, "files": files}


def outline_folder(path: Path) -> Path:
    """Return the archive's path, if it can be unpacked: nothing of the files is read."""
    with zipfile.ZipFile(path) as archive:
        list(_members(archive, path))
    return path


def unpack(path: Path, into: Path) -> Path:
    """Return a folder with what an archive holds, its files read-only.

    One that was unpacked before is compared with the archive, byte by byte.

    Parameters
    ----------
    path
        The archive.
    into
        Folder on whose file system there is room.
    """
    target = into / f"{path.parent.name}{path.name}"  # in a store, the object's digest
    with zipfile.ZipFile(path) as archive, explaining_full_disk("what is unpacked", into):
        if not _holds(archive, path, target):
            into.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=into, prefix=".unpacking-") as temporary:
                new = Path(temporary) / "new"
                new.mkdir()
                _extract(archive, path, new)
                remove(target)
                with suppress(OSError):  # another thread has put its own there meanwhile
                    new.rename(target)
            if not _holds(archive, path, target):
                message = f"{target} is not what was unpacked there: something else writes to it"
                raise ArtifactError(message)
    os.utime(target)  # no sweep takes it for something old
    return target


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, and the folders without any."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        entries = [Path(parent, name) for name in [*folders, *names]]
        if not entries and Path(parent) != folder:
            yield Path(parent)
        for entry in entries:
            mode = entry.lstat().st_mode
            name = entry.relative_to(folder).as_posix()
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
                message = f"{name!r}: expected a file or a folder, found {kind}"
                raise ArtifactError(message)
            if not _is_inside(name):
                message = f"{name!r}: expected a name in UTF-8 without backslashes"
                raise ArtifactError(message)
            if stat.S_ISREG(mode):
                yield entry


def _raise(error: OSError) -> None:
    raise error


def _is_inside(name: str) -> bool:
    """Tell whether a name leads to a place below a folder, on every system."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    parts = name.split("/")
    return not {"", ".", ".."} & {*parts} and not {"\\", "\0", ":"} & {*name}


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    seen: set[str] = set()
    folders: set[str] = set()
    for member in stored_members(archive, path):
        name = member.filename.removesuffix("/")
        parents = {parent.as_posix() for parent in Path(name).parents}
        if not _is_inside(name) or name in seen | folders or seen & parents:
            message = f"{path}: expected names of files below a folder, found {member.filename!r}"
            raise ArtifactError(message)
        seen.add(name)
        folders |= parents
        yield name, member


def _extract(archive: zipfile.ZipFile, path: Path, new: Path) -> None:
    for name, member in _members(archive, path):
        place = new / name
        if member.is_dir():
            place.mkdir(parents=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as source, place.open("xb") as target:
            shutil.copyfileobj(source, target, _PIECE)
        place.chmod(0o444)  # whoever is given the folder shares it with others


def _holds(archive: zipfile.ZipFile, path: Path, folder: Path) -> bool:
    """Tell whether a folder holds what an archive does, and nothing else."""
    try:
        check_folder(folder)
        found = {each.relative_to(folder).as_posix(): each for each in _walk(folder)}
    except (ArtifactError, OSError):
        return False
    members = dict(_members(archive, path))
    if members.keys() != found.keys():
        return False
    for name, member in members.items():
        if member.is_dir() != found[name].is_dir():
            return False
        if not member.is_dir():
            with archive.open(member) as one, found[name].open("rb") as other:
                if not _are_equal(one, other):
                    return False
    return True


def _are_equal(one: IO[bytes], other: IO[bytes]) -> bool:
    while piece := one.read(_PIECE):
        if other.read(len(piece)) != piece:
            return False
    return not other.read(1)
