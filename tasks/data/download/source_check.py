"""Ask a dataset's mirrors whether its files have changed, without downloading what has not."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from digitflow.tasks.data.datasets.places import display
from digitflow.tasks.data.datasets.sources import SourceFile
from digitflow.tasks.data.download.background import Watch
from digitflow.tasks.data.download.conditional import Asked, Seen, ask
from digitflow.tasks.data.download.mirror_errors import (
    MirrorError,
    OutOfTimeError,
    RefusedError,
    WrongBytesError,
)
from digitflow.tasks.data.download.timeouts import LIMITS, TIMEOUT, Limits, ask_in_turn

UNCHANGED, CHANGED, FIRST, OTHER, UNKNOWN = (
    "unchanged",
    "changed",
    "asked for the first time",
    "other bytes than the dataset's",
    "not known",
)
_MATCHING = (UNCHANGED, CHANGED, FIRST)


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
