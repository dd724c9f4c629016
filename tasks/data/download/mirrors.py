"""One request to one mirror: a file's bytes from an offset on, or the reason why not."""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import requests
from requests.utils import get_environ_proxies, requote_uri, select_proxy

from digitflow.tasks.data.datasets.places import (
    HTTP,
    directory_of,
    display,
    is_http,
    problem_with,
    url_of,
)
from digitflow.tasks.data.download.addresses import Nearness, nearness
from digitflow.tasks.data.download.errors import (
    NETWORK_ERRORS,
    BusyError,
    InterruptedTransferError,
    RefusedError,
    StartOverError,
    WrongBytesError,
    explain,
    status_text,
)
from digitflow.tasks.data.download.waiting import Watch, in_background

CHUNK = 256 * 1024  # bytes read at once
REDIRECTS = 10  # followed at most; browsers allow about 20

# RFC 9110 and 6585: the client errors that ask to come back later.
_TRY_LATER = frozenset({408, 425, 429})
# Seconds; a server that asks for less is left alone for so long.
_SHORTEST_PAUSE = 1.0
_MOST_SHOWN = 6  # URLs of a chain of redirects
# Of bytes, in a header. Python refuses to make an int of more than 4,300 digits.
_NUMBER = "[0-9]{1,18}"


@dataclass(frozen=True)
class Answer:
    """What a mirror sends: bytes in `chunks`, the first of them at offset `begin` of the file.

    `begin` is 0 where the mirror ignored the offset it was asked for.
    """

    begin: int
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class Reply:
    """What a server says before the bytes.

    Attributes
    ----------
    status : int
    headers : mapping of str to str
        By name, upper or lower case.
    """

    status: int
    headers: Mapping[str, str]

    @property
    def length(self) -> int | None:
        """The bytes that it announces, if it does."""
        length = self.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(_NUMBER, length) else None


@contextmanager
def open_file(
    mirror: str,
    name: str,
    *,
    begin: int,
    size: int | None,
    timeout: tuple[float, float],
    watch: Watch,
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
    watch : Watch
        What else ends the wait.

    Raises
    ------
    MirrorError
        One of its kinds; reading `Answer.chunks` raises them too.
    """
    check_mirror(mirror)
    if is_http(mirror):
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with ask_server(url_of(mirror, name), headers, timeout, watch) as (reply, chunks):
            yield Answer(_check_reply(reply, begin, size), chunks)
    else:
        with read_file(directory_of(mirror) / name, begin, watch) as (found, chunks):
            _check_size(found.st_size, size)
            yield Answer(begin, chunks)


def check_mirror(mirror: str) -> None:
    """Refuse what is neither a URL that can be asked nor a directory.

    Raises
    ------
    RefusedError
        If it is not.
    """
    problem = problem_with(mirror)
    if problem is not None:
        raise RefusedError(problem, permanent=True)


def ask_server(
    url: str, headers: Mapping[str, str], timeout: tuple[float, float], watch: Watch
) -> AbstractContextManager[tuple[Reply, Iterator[bytes]]]:
    """Ask a server for a URL; the context is what it replies, and the bytes that follow.

    Redirects are followed. The bytes come as they arrive, and undecoded.

    Raises
    ------
    InterruptedTransferError
        If nobody answers.
    RefusedError
        If it leads to an unsafe place, or nowhere.
    TooSlowError, OutOfTimeError
        As `watch` does.
    """
    return in_background(partial(_request, url, headers, timeout), watch)


def read_file(
    path: Path, begin: int, watch: Watch
) -> AbstractContextManager[tuple[os.stat_result, Iterator[bytes]]]:
    """Read a file of a directory; the context is what the system says of it, and its bytes.

    Raises
    ------
    RefusedError
        If it is none that can be read.
    TooSlowError, OutOfTimeError
        As `watch` does: a network drive may be away.
    """
    return in_background(partial(_open_regular, path, begin), watch)


def refusal(reply: Reply) -> RefusedError:
    """Return the error for a reply that is not what was asked for."""
    reason = status_text(reply.status)
    is_final = 400 <= reply.status < 500 and reply.status not in _TRY_LATER
    if is_final or reply.status < 400:
        return RefusedError(reason, permanent=is_final)
    seconds = _retry_after(reply.headers)
    if seconds is None:
        return RefusedError(reason)
    return BusyError(f"{reason}, and asks to be left alone for {seconds:,.0f} s", seconds)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds a server asks to be left alone, if it does (RFC 9110, 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", text):
        return max(_SHORTEST_PAUSE, float(text))
    until = moment(text)
    if until is None:
        return None
    # By the server's own clock, where it shows it.
    now = moment(headers.get("Date", "")) or datetime.now(UTC)
    return max(_SHORTEST_PAUSE, (until - now).total_seconds())


def moment(text: str) -> datetime | None:
    """Return the time that a header names, in UTC where it names no zone; None if it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # OverflowError: of years and zones of twenty digits
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


@contextmanager
def _request(
    url: str, headers: Mapping[str, str], timeout: tuple[float, float]
) -> Iterator[tuple[Reply, Iterator[bytes]]]:
    with requests.Session() as session, _follow(session, url, headers, timeout) as response:
        yield Reply(response.status_code, response.headers), _body(response, timeout)


def _follow(
    session: requests.Session, url: str, headers: Mapping[str, str], timeout: tuple[float, float]
) -> requests.Response:
    """Ask for a URL and follow where it leads; the body is left to be read."""
    # One file a connection: its end must not leave us waiting for more.
    headers = {"Accept-Encoding": "identity", "Connection": "close", **headers}
    chain = [url]
    seen = set()
    while True:
        try:
            response = session.get(
                chain[-1], headers=headers, timeout=timeout, stream=True, allow_redirects=False
            )
            target = session.get_redirect_target(response)
        except (*NETWORK_ERRORS, ValueError) as error:  # ValueError: what is wrong with a URL
            raise InterruptedTransferError(explain(error, timeout)) from error
        if target is None:
            return response
        response.close()
        # The server closes the connection, whether it says so or not. Kept for the next request,
        # it would end that one early as often as its end arrives in time.
        session.close()
        # Whoever is sent to the same place in the same state is sent there for ever.
        state = (chain[-1], *sorted(session.cookies.get_dict().items()))
        if state in seen:
            reason = f"redirect loop: {_shown(chain[chain.index(chain[-1]) :])}"
            raise RefusedError(reason, permanent=True)
        seen.add(state)
        if len(chain) > REDIRECTS:
            reason = f"redirects more than {REDIRECTS} times: {_shown(chain)}"
            raise RefusedError(reason, permanent=True)
        chain.append(_safe(chain[-1], target))


def _safe(url: str, target: str) -> str:
    """Return the absolute URL of a redirect, unless it leads where nobody should be led.

    requests would follow to http, where anybody on the way can read and alter, and into the network
    of this machine, where servers trust whoever asks.
    """
    try:
        absolute = requote_uri(urljoin(url, target))
        problem = problem_with(absolute)
        before, after = urlsplit(url).scheme, urlsplit(absolute).scheme
    except (ValueError, requests.RequestException):
        reason = "redirects to what is not a valid URL"
        raise RefusedError(reason, permanent=True) from None
    if after not in HTTP or (before == "https" and after != "https"):
        reason = f"redirects from {before} to {display(absolute)[:200]}, refused"
        raise RefusedError(reason, permanent=True)
    if problem is not None:
        reason = f"redirects to what is {problem}"
        raise RefusedError(reason, permanent=True)
    there = _nearness(absolute)
    if there > _nearness(url) or there is Nearness.LINK_OR_METADATA:
        reason = (
            f"redirects to {display(absolute)[:200]}, an address inside this machine's network, "
            "refused; if the files are there, name that mirror itself"
        )
        raise RefusedError(reason, permanent=True)
    return absolute


def _nearness(url: str) -> Nearness:
    proxy = select_proxy(url, get_environ_proxies(url))
    return nearness(urlsplit(url).hostname or "", by_name=proxy is None)


def _shown(chain: list[str]) -> str:
    urls = [display(url) for url in chain]
    if len(urls) > _MOST_SHOWN:
        urls = [*urls[: _MOST_SHOWN - 1], "…", urls[-1]]
    return " → ".join(urls)


def _check_reply(reply: Reply, begin: int, size: int | None) -> int:
    """Return the offset at which the bytes of a reply begin."""
    if begin and reply.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise StartOverError(status_text(reply.status))
    if begin and reply.status == HTTPStatus.PARTIAL_CONTENT:
        _check_range(reply.headers.get("Content-Range", ""), begin, size)
        return begin
    if reply.status != HTTPStatus.OK:
        raise refusal(reply)
    if reply.length is not None:
        _check_size(reply.length, size)
    return 0


def _check_range(content_range: str, begin: int, size: int | None) -> None:
    match = re.fullmatch(rf"bytes ({_NUMBER})-{_NUMBER}/({_NUMBER}|\*)", content_range.strip())
    if match is None or int(match[1]) != begin:
        shown = repr(content_range[:100])
        reason = f"asked for bytes from {begin:,} on, it sent Content-Range {shown}"
        raise StartOverError(reason)
    if match[2] != "*":
        _check_size(int(match[2]), size)


def _check_size(found: int, expected: int | None) -> None:
    if expected is not None and found != expected:
        reason = f"wrong bytes: expected a file of {expected:,} bytes, it offers {found:,}"
        raise WrongBytesError(reason, permanent=True)


def _body(response: requests.Response, timeout: tuple[float, float]) -> Iterator[bytes]:
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


@contextmanager
def _open_regular(path: Path, begin: int) -> Iterator[tuple[os.stat_result, Iterator[bytes]]]:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe or a device would not end
            reason = "not a regular file"
            raise RefusedError(reason, permanent=True)
        file = path.open("rb")
    except OSError as error:
        raise RefusedError(_why_not(path, error), permanent=True) from error
    with file:
        file.seek(begin)
        yield os.fstat(file.fileno()), _contents(file)


def _why_not(path: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return (error.strerror or str(error)).lower()
    if path.is_symlink():
        return f"a link to {path.readlink()}, which is not there"
    return "no such file or directory" if path.parent.exists() else "no such directory"


def _contents(file: BinaryIO) -> Iterator[bytes]:
    while True:
        try:
            chunk = file.read(CHUNK)
        except OSError as error:
            reason = f"cannot be read: {os.strerror(error.errno or 0).lower()}"
            raise InterruptedTransferError(reason) from error
        if not chunk:
            return
        yield chunk
