"""ZIP archives as our formats write them: nothing compressed, nothing encrypted."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from digitflow.storage.errors import ArtifactError

_ENCRYPTED = 0x1  # bit of a member's flags in a ZIP archive


def stored_members(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    """Yield the members of an archive.

    Raises
    ------
    ArtifactError
        If one is compressed or encrypted, or they declare more data than the file holds.
    """
    # Stored as they are, members cannot outgrow the file, unless they share its bytes.
    if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
        message = f"{path} declares more data than it holds"
        raise ArtifactError(message)
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & _ENCRYPTED:
            message = f"{path} ({member.filename}) is compressed or encrypted, which ours never is"
            raise ArtifactError(message)
        yield member
