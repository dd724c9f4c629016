"""A call that has to answer in time."""

import threading

import pytest

from digitflow.storage.backends.within import NoAnswerError, within
from tests.patience import PATIENCE


def test_what_answers_in_time() -> None:
    assert within(PATIENCE, lambda: "answer") == "answer"


def test_what_a_call_raises_is_raised() -> None:
    def refuse() -> None:
        raise PermissionError("no")

    with pytest.raises(PermissionError, match="no"):
        within(PATIENCE, refuse)


def test_a_time_out_of_the_call_itself_is_its_own() -> None:
    def give_up() -> None:
        raise TimeoutError("the driver's")

    with pytest.raises(TimeoutError, match="the driver's"):
        within(PATIENCE, give_up)


def test_what_never_answers_is_left() -> None:
    answer = threading.Event()
    with pytest.raises(NoAnswerError, match="it has not answered within 0 s"):
        within(0.05, answer.wait)
    answer.set()
