"""A call that has to answer in time, whatever it waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Answer = TypeVar("Answer")


class NoAnswerError(Exception):
    """A call has not returned in time."""


def within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """Return what a call returns, if it does so within `seconds`.

    Drivers have time-outs of their own, for each packet, or none at all. So the call is made in
    another thread, and left to itself when its time is over: it cannot be interrupted, and must
    do no harm when it ends later.

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
    try:
        return outcome.result(seconds)
    except TimeoutError as error:
        if outcome.done():  # the call's own
            raise
        message = f"it has not answered within {seconds:,.0f} s"
        raise NoAnswerError(message) from error
