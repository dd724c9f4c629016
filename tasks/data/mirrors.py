"""One request to one mirror: a file's bytes from an offset on, or the reason why not."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import url2pathname

import requests

from tasks.data.mirror_errors import (
    NETWORK_ERRORS,
    InterruptedTransferError,
    RefusedError,
    StartOverError,
    WrongBytesError,
    explain,
    status_text,
)

CHUNK = 256 * 1024  # bytes read at once
HTTP = ("http", "https")
REDIRECTS = 10  # followed before it counts as a loop; browsers allow about 20

# RFC 9110 and 6585: the client errors that ask to come back later.
TRY_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Answer:
    """What a mirror sends: bytes in `chunks`, the first of them at offset `begin` of the file.

    `begin` is 0 where the mirror ignored the offset it was asked for.
    """

    begin: int
    chunks: Iterator[bytes]


@contextmanager
def open_file(
    mirror: str, name: str, *, begin: int, size: int | None, timeout: tuple[float, float]
) -> Iterator[Answer]:
    """Ask `mirror` for the file `name` from byte `begin` on.

    Parameters
    ----------
    mirror : str
        URL prefix (http, https), ``file://`` URL or path of a directory.
    name : str
        A plain file name.
    begin : int
        Offset in bytes.
    size : int or None
        Expected length of the whole file; a mirror that announces another is refused at once.
    timeout : (float, float)
        Seconds to wait for a connection, and for each next piece of data.

    Raises
    ------
    MirrorError
        One of its kinds; reading `Answer.chunks` raises them too.
    """
    scheme = scheme_of(mirror)
    if scheme in HTTP:
        with requests.Session() as session:
            headers = {"Range": f"bytes={begin}-"} if begin else {}
            with get(session, url_of(mirror, name), headers, timeout) as response:
                first = _check_response(response, begin, size)
                yield Answer(first, body(response, timeout))
    else:
        with open_regular(directory(mirror) / name, size) as file:
            file.seek(begin)
            yield Answer(begin, contents(file))


def scheme_of(mirror: str) -> str:
    """Return ``http``, ``https``, ``file``, or nothing for the path of a directory.

    Raises
    ------
    RefusedError
        If it is another one.
    """
    scheme = urlsplit(mirror).scheme if "://" in mirror else ""
    if scheme not in (*HTTP, "file", ""):
        reason = f"expected http(s)://, file:// or a directory, found {scheme}://"
        raise RefusedError(reason, permanent=True)
    return scheme


def display(mirror: str) -> str:
    """Return `mirror` as it may be shown: without credentials and signatures."""
    if "://" not in mirror:
        return mirror
    parts = urlsplit(mirror)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def url_of(prefix: str, name: str) -> str:
    """Return the URL of a file below a prefix."""
    parts = urlsplit(prefix)
    # A query (of a signed prefix, say) stays behind the name.
    return parts._replace(path=parts.path.rstrip("/") + "/" + quote(name)).geturl()


def get(
    session: requests.Session, url: str, headers: Mapping[str, str], timeout: tuple[float, float]
) -> requests.Response:
    """Ask for a URL and follow where it leads; the body is left to be read.

    Raises
    ------
    InterruptedTransferError
        If nobody answers.
    RefusedError
        If it leads to an unsafe place, or nowhere.
    """
    # One file a connection: its end must not leave us waiting for more.
    headers = {"Accept-Encoding": "identity", "Connection": "close", **headers}
    for _ in range(REDIRECTS + 1):
        try:
            response = session.get(
                url, headers=headers, timeout=timeout, stream=True, allow_redirects=False
            )
        except (*NETWORK_ERRORS, ValueError) as error:  # ValueError: what is wrong with a URL
            raise InterruptedTransferError(explain(error, timeout)) from error
        location = response.headers.get("Location")
        if response.status_code not in (301, 302, 303, 307, 308) or location is None:
            return response
        response.close()
        target = urljoin(url, location)
        # requests would follow to http, where anybody on the way can read and alter.
        if urlsplit(target).scheme != "https" and urlsplit(url).scheme == "https":
            reason = f"redirects from https to {display(target)}, refused"
            raise RefusedError(reason, permanent=True)
        url = target
    reason = f"redirects more than {REDIRECTS} times, last to {display(url)}"
    raise RefusedError(reason)


def _check_response(response: requests.Response, begin: int, size: int | None) -> int:
    """Return the offset at which the response's body begins."""
    status = response.status_code
    if begin and status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise StartOverError(status_text(status))
    if begin and status == HTTPStatus.PARTIAL_CONTENT:
        _check_range(response.headers.get("Content-Range", ""), begin, size)
        return begin
    if status != HTTPStatus.OK:
        permanent = 400 <= status < 500 and status not in TRY_LATER
        raise RefusedError(status_text(status), permanent=permanent)
    length = response.headers.get("Content-Length", "")
    if length.isdecimal():
        _check_size(int(length), size)
    return 0


def _check_range(content_range: str, begin: int, size: int | None) -> None:
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range.strip())
    if match is None or int(match[1]) != begin:
        reason = f"asked for bytes from {begin:,} on, it sent Content-Range {content_range!r}"
        raise StartOverError(reason)
    if match[2] != "*":
        _check_size(int(match[2]), size)


def _check_size(found: int, expected: int | None) -> None:
    if expected is not None and found != expected:
        reason = f"wrong bytes: expected a file of {expected:,} bytes, it offers {found:,}"
        raise WrongBytesError(reason, permanent=True)


def body(response: requests.Response, timeout: tuple[float, float]) -> Iterator[bytes]:
    """Yield what a response brings, as it arrives and undecoded."""
    while True:
        try:
            # Undecoded: a server that labels a .gz file "Content-Encoding: gzip" sends the right
            # bytes. read1 hands over what has arrived, so that a stall loses none of it.
            chunk = response.raw.read1(CHUNK, decode_content=False)
        except NETWORK_ERRORS as error:
            raise InterruptedTransferError(explain(error, timeout)) from error
        if not chunk:
            return
        yield chunk


def directory(mirror: str) -> Path:
    """Return the folder that a path or a ``file://`` URL names."""
    if "://" not in mirror:
        return Path(mirror).expanduser()
    parts = urlsplit(mirror)
    if parts.netloc not in ("", "localhost"):
        reason = f"expected file:///path, found a file URL with the host {parts.netloc!r}"
        raise RefusedError(reason, permanent=True)
    return Path(url2pathname(parts.path))


def open_regular(path: Path, size: int | None) -> BinaryIO:
    """Open a file of a mirror, refusing what is none and what has another size."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device would not end
            reason = "not a regular file"
            raise RefusedError(reason, permanent=True)
        _check_size(found.st_size, size)
        return path.open("rb")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if isinstance(error, FileNotFoundError) and not path.parent.exists():
            reason = "no such directory"
        raise RefusedError(reason, permanent=True) from error


def contents(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rest of a file."""
    while True:
        try:
            chunk = file.read(CHUNK)
        except OSError as error:
            reason = f"cannot be read: {os.strerror(error.errno or 0).lower()}"
            raise InterruptedTransferError(reason) from error
        if not chunk:
            return
        yield chunk
