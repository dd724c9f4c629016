"""Options are parsed once: what a run was asked for is what it does, whatever changes meanwhile."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digitflow.flows import spec as specs
from digitflow.flows.cli.app import main
from digitflow.flows.direct import run
from digitflow.storage.store import Store
from digitflow.tasks.data.idx import arrays as idx
from digitflow.tasks.engine.events import Event, StageFinished, observing
from tests.servers.prefect_server import PrefectServer
from tests.walk import TINY, write_dataset

SMALL = {**TINY, "training_sample": 0, "test_sample": 0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return write_dataset(tmp_path / "data")


def test_labels_that_change_just_before_the_end_change_nothing_that_is_recorded(
    folder: Path,
) -> None:
    def change(event: Event) -> None:
        if isinstance(event, StageFinished) and event.label == "plot":
            for name in ("train", "t10k"):
                labels = np.resize(np.arange(10, 20, dtype=np.uint8), 40 if name == "train" else 20)
                idx.write(folder / f"{name}-labels-idx1-ubyte.gz", labels)

    with observing(change):
        summary = run(str(folder), **SMALL)
    model = Store().models.load(summary.model or 0)
    assert list(model.class_names) == [str(number) for number in range(10)]
    written = json.loads((summary.folder / "metrics.json").read_text(encoding="utf-8"))
    assert [each["class"] for each in written["per_class"]] == [str(n) for n in range(10)]


@pytest.mark.prefect
def test_a_run_of_the_command_finds_the_data_and_resolves_the_parameters_once(
    folder: Path, prefect_server: PrefectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(name: str) -> None:
        plain = getattr(specs, name)

        def counted(*given: Any) -> Any:
            calls.append(name)
            return plain(*given)

        monkeypatch.setattr(specs, name, counted)

    counting("find")
    counting("resolve")
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    assert main(["run", "--dataset", str(folder), "--quiet", "--set", *settings]) == 0
    assert sorted(calls) == ["find", "resolve"]
