"""The kept inputs of each target: one archive a target, named inside by their digests.

Writing the same inputs gives the same bytes, so that an archive changes only with its inputs.
"""

import zipfile
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")
_WHEN = (1980, 1, 1, 0, 0, 0)


def kept(target: str) -> list[bytes]:
    """Return the inputs of a target, in the order of their names."""
    with zipfile.ZipFile(FOLDER / f"{target}.zip") as archive:
        return [archive.read(name) for name in sorted(archive.namelist())]


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Add inputs to those of a target."""
    path = FOLDER / f"{target}.zip"
    before = kept(target) if path.exists() else []
    by_name = {sha1(data, usedforsecurity=False).hexdigest(): data for data in (*before, *inputs)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(by_name):
            archive.writestr(zipfile.ZipInfo(name, _WHEN), by_name[name], zipfile.ZIP_DEFLATED)


def unpack(target: str, folder: Path) -> None:
    """Write the inputs of a target into a folder, a file each; none, if none were ever kept."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / f"{target}.zip").exists():
        return
    with zipfile.ZipFile(FOLDER / f"{target}.zip") as archive:
        archive.extractall(folder)
