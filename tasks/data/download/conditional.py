"""One conditional request to one mirror: has a file changed since it was last read there?

What has not changed is not read. Only what proves that bytes are the same counts: a strong ETag, a
``Last-Modified`` that RFC 9110 lets stand for one, size and time of a file. Anything less is read.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

from digitflow.tasks.data.datasets.places import directory_of, is_http, url_of
from digitflow.tasks.data.datasets.sources import SourceFile
from digitflow.tasks.data.download.background import Watch
from digitflow.tasks.data.download.mirror_errors import InterruptedTransferError, status_text
from digitflow.tasks.data.download.mirrors import ask_server, check_mirror, read_file, refusal
from digitflow.tasks.data.download.timeouts import LIMITS

# RFC 9110, 8.8.2.2: a time is strong if the file had not changed for a second when it was sent.
_SETTLED = timedelta(seconds=1)


@dataclass(frozen=True)
class Seen:
    """What a mirror served under a name when it was last asked.

    Attributes
    ----------
    size : int
        Bytes.
    sha256 : str or None
        Digest; None if it was not read, being of another size than expected.
    etag, last_modified : str or None
        What the server calls this version, where that proves the bytes.
    modified_ns : int or None
        Time of the file in a directory, in nanoseconds since 1970.
    """

    size: int
    sha256: str | None
    etag: str | None = None
    last_modified: str | None = None
    modified_ns: int | None = None


@dataclass(frozen=True)
class Asked:
    """A mirror's answer: what it serves now, and how that is known."""

    seen: Seen
    how: str


def ask(
    mirror: str,
    file: SourceFile,
    before: Seen | None,
    timeout: tuple[float, float],
    watch: Watch | None = None,
) -> Asked:
    """Ask `mirror` what it serves under a file's name, and read it only if that may have changed.

    Parameters
    ----------
    mirror : str
        URL prefix (http, https), ``file://`` URL or path of a directory.
    file : SourceFile
        What is expected there. What has another size is not read.
    before : Seen or None
        What this mirror served last time.
    timeout : (float, float)
        Seconds to wait for a connection, and for each next piece of data.
    watch : Watch, optional
        What else ends the wait; by default the usual limits, beginning now.

    Raises
    ------
    MirrorError
        If it does not answer, or has no such file: nothing is known then.
    """
    check_mirror(mirror)
    watch = watch or Watch(LIMITS, LIMITS.deadline(file.size))
    if is_http(mirror):
        return _ask_server(url_of(mirror, file.name), file.size, before, timeout, watch)
    return _ask_directory(directory_of(mirror) / file.name, file, before, watch)


def _ask_directory(path: Path, file: SourceFile, before: Seen | None, watch: Watch) -> Asked:
    with read_file(path, 0, watch) as (status, chunks):
        modified = status.st_mtime_ns
        same = before is not None and (before.size, before.modified_ns) == (
            status.st_size,
            modified,
        )
        # Clocks are coarse: where these promise other bytes than are expected, look.
        if before is not None and same and before.sha256 == file.sha256:
            return Asked(before, "same size and time")
        if status.st_size != file.size:
            return Asked(Seen(status.st_size, None, modified_ns=modified), "another size")
        found, sha256 = _digest(chunks, file.size)
        return Asked(Seen(found, sha256, modified_ns=modified), "read")


def _ask_server(
    url: str, size: int, before: Seen | None, timeout: tuple[float, float], watch: Watch
) -> Asked:
    headers = {}
    if before is not None and before.etag is not None:
        headers["If-None-Match"] = before.etag
    elif before is not None and before.last_modified is not None:
        headers["If-Modified-Since"] = before.last_modified
    with ask_server(url, headers, timeout, watch) as (reply, chunks):
        if before is not None and headers and reply.status == HTTPStatus.NOT_MODIFIED:
            return Asked(before, status_text(reply.status))
        if reply.status != HTTPStatus.OK:
            raise refusal(reply)
        etag, last_modified = _strong_etag(reply.headers), _strong_time(reply.headers)
        if before is not None and etag is not None and etag == before.etag:
            return Asked(before, "same ETag")  # from a server that knows no conditions
        announced = reply.length
        if announced is not None and announced != size:
            return Asked(Seen(announced, None, etag, last_modified), "another size")
        found, sha256 = _digest(chunks, size)
        if announced is not None and found < announced:
            reason = f"connection closed early ({found:,} of {announced:,} bytes have arrived)"
            raise InterruptedTransferError(reason)
    if found > size:
        return Asked(Seen(found, None), "another size")
    return Asked(Seen(found, sha256, etag, last_modified), "read")


def _digest(chunks: Iterable[bytes], size: int) -> tuple[int, str]:
    """Return length and digest of what is read; it is not read far beyond the expected size."""
    digest, found = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        found += len(chunk)
        if found > size:
            break
    return found, digest.hexdigest()


def _strong_etag(headers: Mapping[str, str]) -> str | None:
    """Return the ETag, unless it is weak: that promises the same meaning, not the same bytes."""
    etag = headers.get("ETag")
    is_strong = etag is not None and len(etag) > 1 and etag[0] == etag[-1] == '"'
    return etag if is_strong else None


def _strong_time(headers: Mapping[str, str]) -> str | None:
    text = headers.get("Last-Modified")
    try:
        modified = parsedate_to_datetime(text or "")
        sent = parsedate_to_datetime(headers.get("Date", ""))
        return text if sent - modified >= _SETTLED else None
    except (ValueError, TypeError):  # one is missing, none, or names no time zone
        return None
