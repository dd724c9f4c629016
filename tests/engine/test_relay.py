"""What a stage says in another process is heard in this one, word for word."""

import json

import pytest

from digitflow.tasks.engine.events import (
    Event,
    StageNoted,
    StageProgressed,
    StageStarted,
    StageWaiting,
)
from digitflow.tasks.engine.relay import _message, event_of


@pytest.mark.parametrize(
    "event",
    [
        StageWaiting("train", "run patient-owl (process 7 on here) is computing it"),
        StageNoted("download", "http://mirror/: 429 Too Many Requests; asked again in 25 s"),
        StageStarted("train", ("never run",)),
        StageProgressed("train", 2, 5, "epochs", {"train_loss": 0.25}),
    ],
    ids=lambda event: type(event).__name__,
)
def test_there_and_back(event: Event) -> None:
    message = _message(event)
    assert message is not None
    assert event_of(json.loads(json.dumps(message))) == event
