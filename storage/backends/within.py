"""A call that has to answer in time, whatever it waits for."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


class NoAnswerError(Exception):
    """A call has not returned in time."""


def within(
    seconds: float,
    call: Callable[[], Answer],
    say: Callable[[float], None] = lambda waited: None,
    pauses: tuple[float, float] = (math.inf, math.inf),
) -> Answer:
    """Return what a call returns, if it does so within `seconds`.

    Drivers have time-outs of their own, for each packet, or none at all. So the call is made in
    another thread, and left to itself when its time is over: it cannot be interrupted, and must
    do no harm when it ends later.

    Parameters
    ----------
    seconds
        How long it may take.
    call
        What is called.
    say
        Told for how many seconds it has been waited for.
    pauses
        Seconds before that is said first, and before each next time.

    Raises
    ------
    NoAnswerError
        If it does not.
    BaseException
        What the call raises.
    """
    outcome: Future[Answer] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            outcome.set_exception(error)

    threading.Thread(target=run, name="has to answer in time", daemon=True).start()
    waited, pause = 0.0, pauses[0]
    while True:
        now = min(pause, seconds - waited)
        try:
            return outcome.result(now)
        except TimeoutError as error:
            if outcome.done():  # the call's own
                raise
            waited += now
            if waited >= seconds:
                message = f"it has not answered within {seconds:,.0f} s"
                raise NoAnswerError(message) from error
        say(waited)
        pause = pauses[1]
