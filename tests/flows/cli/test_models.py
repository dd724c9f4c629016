"""`digitflow models show`, in this process: no Prefect is started."""

import json
from pathlib import Path

import numpy as np
import pytest

from digitflow.flows.cli.app import main
from digitflow.storage.store import Store
from tests.registered import register

WEIGHTS = {"weights_1": np.ones((63, 2)), "weights_2": np.eye(2)}


@pytest.mark.parametrize("size", [(9, 7), None])
def test_the_images_that_a_model_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    size: tuple[int, int] | None,
):
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path))
    register(Store(), weights=WEIGHTS, class_names=("a", "b"), image_size=size, transposed=True)
    assert main(["models", "show", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["image", "size", *(["9", "x", "7"] if size else "–")] in lines
    assert ["transposed", "yes"] in lines
    assert main(["models", "show", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["image_size"] == (list(size) if size else None)
