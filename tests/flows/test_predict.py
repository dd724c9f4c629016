"""The flow of predictions on a real Prefect server."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from prefect.exceptions import ParameterTypeError

from digitflow.flows.predict import predict
from digitflow.storage.store import Store
from digitflow.tasks.data.idx import arrays as idx
from tests.registered import HALVES, register
from tests.servers.prefect_server import PrefectServer

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]


@pytest.fixture
def images() -> np.ndarray:
    """Images on black with more and more white pixels above, and the same number below."""
    drawn = np.zeros((12, 28, 28), np.uint8)
    for number, image in enumerate(drawn):
        image[4, 2 : 3 + 2 * number] = image[20, 4:16] = 255
    return drawn


@pytest.fixture
def scans(tmp_path: Path, images: np.ndarray) -> Path:
    """A folder of pictures, one of them blank and one unreadable; the champion is there."""
    cache = Store()
    register(cache, weights=HALVES, class_names=("head", "foot"))
    cache.models.promote(1, "test")
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(folder / "blank.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    return folder


def run(server: PrefectServer, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the flow; return its run as the UI shows it, and the artifacts by their keys."""
    state = predict(**parameters, return_state=True)
    shown = server.ask(f"/flow_runs/{state.state_details.flow_run_id}")
    asked = {"artifacts": {"flow_run_id": {"any_": [shown["id"]]}}}
    return shown, {each["key"]: each for each in server.ask("/artifacts/filter", asked)}


def test_a_folder(prefect_server: PrefectServer, scans: Path) -> None:
    shown, artifacts = run(prefect_server, pictures=str(scans), sheet=8)
    assert shown["state_name"] == "Incomplete"
    assert "13 pictures by model 1, 1 blank, 1 files unreadable" in shown["state"]["message"]

    folder = Path("results", shown["name"])
    assert sorted(path.name for path in folder.iterdir()) == [
        "contact_sheet.png",
        "predictions.csv",
        "run.json",
    ]
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    assert [row["class"] for row in rows[:2] + rows[-3:]] == ["foot", "foot", "head", "", ""]
    assert [row["note"] for row in rows[-2:]] == [
        "blank",
        "unreadable: expected a picture (PNG, JPEG, BMP, GIF, WEBP), found a file of another kind",
    ]
    assert json.loads((folder / "run.json").read_text())["model"] == 1

    report = artifacts["digitflow-predictions"]
    assert report["description"] == "Predictions · 13 pictures · model 1"
    assert '<img width="900" alt="Contact sheet"' in report["data"]
    assert "broken.jpg" in report["data"]
    table = json.loads(artifacts["digitflow-predicted-classes"]["data"])
    assert [row["class"] for row in table] == ["head", "foot"]
    assert sum(row["pictures"] for row in table) == 12

    (batch,) = Store().batches.newest_first()
    assert (sum(batch.counts), batch.blank, batch.unreadable) == (12, 1, 1)
    assert batch.run == shown["name"]
    assert 0.5 < batch.confidence < 1


def test_an_idx_file_without_a_record_into_a_named_folder(
    prefect_server: PrefectServer, scans: Path, images: np.ndarray, tmp_path: Path
) -> None:
    idx.write(tmp_path / "images.gz", images)
    given = {"pictures": str(tmp_path / "images.gz"), "output": "answers", "record": False}
    shown, _ = run(prefect_server, **given, model=1)
    assert (shown["state_type"], shown["state_name"]) == ("COMPLETED", "Completed")
    assert len(Path("answers/predictions.csv").read_text().splitlines()) == 1 + 12
    assert list(Store().batches.newest_first()) == []


def test_images_that_are_no_squares_from_files_that_hold_them_transposed(
    prefect_server: PrefectServer, tmp_path: Path
) -> None:
    weights = {"weights_1": np.repeat(np.eye(2), 12, axis=0) / 100, "weights_2": np.eye(2)}
    known = {"image_size": (4, 6), "transposed": True}
    register(Store(), weights=weights, class_names=("head", "foot"), **known)
    heads = np.zeros((3, 4, 6), np.uint8)
    heads[0, 0] = heads[1, 1] = heads[2, 3] = 200
    idx.write(tmp_path / "images.gz", heads.swapaxes(1, 2))
    shown, _ = run(prefect_server, pictures=str(tmp_path / "images.gz"), model=1)
    assert shown["state_name"] == "Completed"
    rows = csv.DictReader(
        Path("results", shown["name"], "predictions.csv").read_text().splitlines()
    )
    assert [row["class"] for row in rows] == ["head", "head", "foot"]


def test_refused_before_any_work(prefect_server: PrefectServer, scans: Path) -> None:
    shown, _ = run(prefect_server, pictures="nowhere")
    assert shown["state_type"] == "FAILED"
    assert "expected a folder or a file on the worker's machine" in shown["state"]["message"]

    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    shown, _ = run(prefect_server, pictures=str(scans), output="mine")
    assert "found letter.txt, which no run wrote" in shown["state"]["message"]

    (scans / "sub").mkdir()
    shown, _ = run(prefect_server, pictures=str(scans / "sub"))
    assert "expected pictures, found none that can be read" in shown["state"]["message"]

    with pytest.raises((ParameterTypeError, ValueError), match="sheet"):
        predict(pictures=str(scans), sheet=0)
