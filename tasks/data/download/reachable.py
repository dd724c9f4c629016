"""Ask all mirrors at once, briefly, whether any of them answers."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence

from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.data.datasets.sources import SourceFile
from digitflow.tasks.data.download.background import Watch
from digitflow.tasks.data.download.mirror_errors import BusyError, MirrorError, OutOfTimeError
from digitflow.tasks.data.download.mirrors import open_file
from digitflow.tasks.data.download.timeouts import LIMITS, Deadline


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
