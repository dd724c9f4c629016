"""Ask a dataset's mirrors whether they answer, and whether its files have changed.

What has not changed is not read. Only what proves that bytes are the same counts: a strong ETag, a
``Last-Modified`` that RFC 9110 lets stand for one, size and time of a file. Anything less is read.
"""

import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

from digitflow.tasks.data.datasets.places import directory_of, display, is_http, url_of
from digitflow.tasks.data.datasets.sources import SourceFile
from digitflow.tasks.data.download.errors import (
    BusyError,
    InterruptedTransferError,
    MirrorError,
    OutOfTimeError,
    RefusedError,
    WrongBytesError,
    status_text,
)
from digitflow.tasks.data.download.mirrors import (
    ask_server,
    check_mirror,
    moment,
    open_file,
    read_file,
    refusal,
)
from digitflow.tasks.data.download.waiting import (
    LIMITS,
    TIMEOUT,
    Deadline,
    Limits,
    Watch,
    ask_in_turn,
)

# RFC 9110, 8.8.2.2: a time is strong if the file had not changed for a second when it was sent.
_SETTLED = timedelta(seconds=1)

UNCHANGED, CHANGED, FIRST, OTHER, UNKNOWN = (
    "unchanged",
    "changed",
    "asked for the first time",
    "other bytes than the dataset's",
    "not known",
)
_MATCHING = (UNCHANGED, CHANGED, FIRST)


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
    text = headers.get("Last-Modified", "")
    modified, sent = moment(text), moment(headers.get("Date", ""))
    if modified is None or sent is None:
        return None
    return text if sent - modified >= _SETTLED else None


@dataclass(frozen=True)
class FileAnswer:
    """What is known of one file.

    Attributes
    ----------
    name : str
        Its name.
    verdict : str
        One of the constants above.
    mirror : str
        Who says so, as it may be shown; empty if nobody answered.
    how : str
        How that is known, or why not, in a few words.
    permanent : bool
        True unless asking again soon may help.
    """

    name: str
    verdict: str
    mirror: str
    how: str
    permanent: bool = True


@dataclass(frozen=True)
class SourceAnswer:
    """What was asked of a dataset's source, and answered.

    Attributes
    ----------
    files : tuple of FileAnswer
        In the dataset's order; none for a dataset that the project draws itself.
    seen : mapping
        What to remember until next time: mirror → file → what it served.
    """

    files: tuple[FileAnswer, ...]
    seen: Mapping[str, Mapping[str, Seen]]

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of the files that hold other data than last time."""
        return tuple(file.name for file in self.files if file.verdict == CHANGED)

    @property
    def unconfirmed(self) -> tuple[FileAnswer, ...]:
        """Files of which no mirror says that it serves the dataset's bytes."""
        return tuple(file for file in self.files if file.verdict not in _MATCHING)


def check(
    files: Sequence[SourceFile],
    mirrors: Sequence[str],
    last: Mapping[str, str],
    seen: Mapping[str, Mapping[str, Seen]],
    *,
    timeout: tuple[float, float] = TIMEOUT,
    limits: Limits = LIMITS,
    say: Callable[[str], None] = lambda text: None,
    alive: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> SourceAnswer:
    """Ask for every file, mirror by mirror, until one serves the dataset's bytes.

    Parameters
    ----------
    files : sequence of SourceFile
        What the dataset consists of now.
    mirrors : sequence of str
        In the order to ask them.
    last : mapping of str to str
        File → digest of what the dataset held when it was last asked for.
    seen : mapping
        Mirror, as it may be shown, → file → what it served then.
    timeout : (float, float)
        Seconds to wait for a connection, and for each next piece of data.
    limits : Limits
        When a mirror that answers is left all the same.
    say, alive, sleep : callable
        As for `ask_in_turn`.
    """
    remembered = {mirror: dict(each) for mirror, each in seen.items()}
    silent: dict[str, MirrorError] = {}  # asked once: a silent mirror would cost its time-out again
    deadline = limits.deadline(sum(file.size for file in files))

    def answer(file: SourceFile) -> FileAnswer:
        verdict = UNKNOWN

        def ask_one(mirror: str) -> tuple[str, Asked]:
            nonlocal verdict
            shown = display(mirror)
            if shown in silent:
                raise silent[shown]
            before = remembered.get(shown, {}).get(file.name)
            try:
                asked = ask(mirror, file, before, timeout, Watch(limits, deadline, alive))
            except RefusedError:
                raise  # it has not got this file; it may have the next
            except MirrorError as error:
                silent[shown] = error
                raise
            remembered.setdefault(shown, {})[file.name] = asked.seen
            if asked.seen.sha256 != file.sha256:
                verdict = OTHER
                raise WrongBytesError(_difference(asked, file), permanent=True)
            return shown, asked

        found, failures = ask_in_turn(
            mirrors, ask_one, limits=limits, deadline=deadline, say=say, alive=alive, sleep=sleep
        )
        if found is not None:
            shown, asked = found
            return FileAnswer(file.name, _compared(file, last), shown, asked.how)
        silent.update((each.mirror, OutOfTimeError(each.reason)) for each in failures if each.later)
        reasons = "; ".join(f"{each.mirror}: {each.reason}" for each in failures)
        permanent = all(each.permanent or each.later for each in failures)
        return FileAnswer(file.name, verdict, "", reasons, permanent)

    return SourceAnswer(tuple(map(answer, files)), remembered)


def _compared(file: SourceFile, last: Mapping[str, str]) -> str:
    before = last.get(file.name)
    if before is None:
        return CHANGED if last else FIRST  # a file that the dataset did not have before
    return UNCHANGED if before == file.sha256 else CHANGED


def _difference(asked: Asked, file: SourceFile) -> str:
    if asked.seen.size != file.size:
        return f"{asked.seen.size:,} bytes where the dataset has {file.size:,}"
    return f"SHA-256 {(asked.seen.sha256 or '')[:12]}… where the dataset has {file.sha256[:12]}…"


class NoMirrorReachable(Exception):  # noqa: N818 - reads as what happened
    """No mirror answered.

    Attributes
    ----------
    name : str
        The file that was asked for.
    reasons : mapping of str to str
        For each mirror, why not, in a few words.
    """

    def __init__(self, name: str, reasons: Mapping[str, str]) -> None:
        super().__init__(name, dict(reasons))  # all of them, so that it survives pickling
        self.name = name
        self.reasons = dict(reasons)

    def __str__(self) -> str:
        lines = [f"no mirror has {self.name} to give:"]
        return "\n".join(lines + [f"  {mirror}: {why}" for mirror, why in self.reasons.items()])


def reachable(
    files: Sequence[SourceFile | str], mirrors: Sequence[str], timeout: float = 5.0
) -> None:
    """Return once any mirror is ready to send the first of `files`; nothing is downloaded.

    Parameters
    ----------
    files : sequence of SourceFile or str
        A dataset's files or their names. Where the size is known, a mirror that announces
        another (a login page, say) does not count. One that is busy does, if it asks to be left
        alone for no longer than a download would wait.
    mirrors : sequence of str
        URL prefixes or directories, each asked once, all at the same time.
    timeout : float
        Seconds after which silence counts as no.

    Raises
    ------
    NoMirrorReachable
        If none is; gives the reason for each.
    ValueError
        If `files` is empty.
    """
    if not files:
        message = "expected at least one file to ask for, found none"
        raise ValueError(message)
    first = files[0]
    name, size = (first, None) if isinstance(first, str) else (first.name, first.size)
    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()

    def ask(mirror: str) -> None:
        patience = (timeout, timeout)
        watch = Watch(LIMITS, Deadline(timeout))
        try:
            with open_file(mirror, name, begin=0, size=size, timeout=patience, watch=watch):
                answers.put((mirror, None))
        except BusyError as error:
            answers.put((mirror, None if error.seconds <= LIMITS.pause else error.reason))
        except OutOfTimeError:
            pass  # as nobody has answered
        except MirrorError as error:
            answers.put((mirror, error.reason))

    # Daemon threads: resolving a name knows no timeout, and must not keep the process alive.
    for mirror in mirrors:
        threading.Thread(target=ask, args=(mirror,), daemon=True).start()
    reasons = dict.fromkeys(mirrors, f"no answer within {timeout:g} s")
    deadline = time.monotonic() + timeout
    for _ in reasons:
        try:
            mirror, reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if reason is None:
            return
        reasons[mirror] = reason
    raise NoMirrorReachable(name, {display(mirror): why for mirror, why in reasons.items()})
