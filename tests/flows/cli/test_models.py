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


def test_verdicts_of_people_are_shown_with_author_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    for number in (1, 2):
        weights = {**WEIGHTS, "weights_2": np.eye(2) * number}
        register(Store(), weights=weights, class_names=("a", "b"))
        assert main(["models", "promote", f"v{number}"]) == 0
    capsys.readouterr()

    def said(*arguments: str, code: int = 0) -> str:
        assert main(["models", *arguments]) == code
        found = capsys.readouterr()
        return " ".join((found.out + found.err).split())

    assert "version 1 is the champion again, in place of version 2" in said(
        "rollback", "--why", "blurred eights"
    )
    assert said("hold", "--why", "exam week") == "the champion of mnist is on hold"
    listed = said()
    assert "version 2 is in quarantine since" in listed
    assert "blurred eights" in listed
    assert "the champion of mnist is on hold since" in listed
    assert "exam week" in listed
    assert "quarantined" in listed
    assert "in quarantine since" not in said("promote", "2", code=1)  # the hold comes first
    assert said("release", "mnist") == "the champion of mnist is released"
    assert "digitflow models release 2" in said("promote", "2", code=1)
    assert said("release", "v2") == "version 2 is released"
    said("promote", "2")
    said("quarantine", "1", "--why", "leaky")
    assert "every earlier champion is in quarantine (versions 1)" in said("rollback", code=2)
    shown = json.loads(said("show", "1", "--json"))
    assert shown["standing"] == "quarantined"
    assert "leaky" in shown["quarantine"]
    assert "expected a model version such as v12" in said("show", "nothing", code=2)
