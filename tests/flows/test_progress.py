"""What is being computed does not wait for a server that is away."""

import logging

import httpx
import pytest

from digitflow.tasks.engine.prefect_task import _ProgressArtifact


def test_after_a_failure_the_next_update_comes_much_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []

    def show(percent: float, description: str) -> None:
        asked.append(percent)
        raise httpx.ConnectError("All connection attempts failed")

    progress = _ProgressArtifact("train")
    monkeypatch.setattr(progress, "_show", show)
    monkeypatch.setattr("digitflow.tasks.engine.prefect_task.get_run_logger", logging.getLogger)
    # Prefect's client has asked again for a minute by then; here it takes no time.
    monkeypatch.setattr("digitflow.tasks.engine.prefect_task._PAUSE_AFTER_FAILURE", 1e12)
    for epoch in range(1, 101):
        progress(epoch, 100, "epochs")
    assert asked == [1.0, 100.0]  # and once more at the end
    assert (
        caplog.messages
        == ["train: its progress cannot be shown: All connection attempts failed"] * 2
    )
