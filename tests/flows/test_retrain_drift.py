"""Retraining says whether what the champion is shown is still like its test images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from digitflow.flows.retrain import retrain
from digitflow.storage.store import Store
from digitflow.tasks.prediction.predictions import Prediction, record_batch
from tests.servers.prefect_server import PrefectServer
from tests.walk import write_dataset

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]


def run(server: PrefectServer, data: Path) -> dict[str, Any]:
    """Retrain and return the artifacts that this left in the UI."""
    parameters = {"preset": "quick", "hidden_sizes": [16], "epochs": 3, "validation_size": 0}
    state = retrain(
        dataset=str(data), **parameters, batch_size=16, dpi=40, floor=0.0, return_state=True
    )
    assert state.is_completed(), state.message
    asked = {"artifacts": {"flow_run_id": {"any_": [str(state.state_details.flow_run_id)]}}}
    return {each["key"]: each for each in server.ask("/artifacts/filter", asked)}


def test_drift_is_shown_beside_the_decision(prefect_server: PrefectServer, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "days", training=200, test=100)
    first = run(prefect_server, data)
    assert "digitflow-drift" not in first
    assert "Drift: cannot tell" in first["digitflow-decision"]["data"]

    cache = Store()
    champion = cache.models.champion()
    assert champion is not None
    name = champion.class_names[0]
    predictions = [Prediction(f"{n}.png", name, 0.7, "other", 0.3) for n in range(200)]
    record_batch(cache, champion, predictions, 0, run="quiet-ant")

    second = run(prefect_server, data)
    drift = second["digitflow-drift"]
    said = "Drift: the pictures differ from those of the test set; PSI "
    assert drift["description"].startswith(said)
    assert "data:image/png;base64," in drift["data"]
    assert len(drift["data"]) < 200_000
    assert drift["description"] in second["digitflow-decision"]["data"]
