"""`digitflow retrain`: what was typed reaches the gate, and its verdict is the exit code."""

from pathlib import Path
from typing import Any

import pytest

from digitflow.flows.cli.app import main
from digitflow.flows.retrain import retrain
from digitflow.flows.spec import RunSpec
from digitflow.storage.store import Store
from digitflow.tasks.agg import Figure
from digitflow.tasks.figures.png import to_png
from digitflow.tasks.stages.plot import plot
from tests.walk import write_dataset

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

DOT = to_png(Figure(figsize=(1, 1)), dpi=10)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave out figures, and the server of one run: `digitflow run` has its tests."""

    def run_flow(flow: str, spec: RunSpec, terminal: Any, **parameters: Any) -> Any:
        assert flow == "digitflow.flows.retrain:retrain"
        del parameters["verbose"]
        return retrain(**spec.options.flow_parameters(), **parameters)

    monkeypatch.setattr("digitflow.flows.cli.run.run_flow", run_flow)
    monkeypatch.setattr(plot, "function", lambda **given: dict.fromkeys(plot.outputs, DOT))
    monkeypatch.setenv("DIGITFLOW_DATASETS", str(tmp_path / "added"))


def test_the_verdict_is_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_dataset(tmp_path / "inbox", training=300, test=200)
    assert main(["dataset", "add", str(files), "--name", "inbox", "--moving"]) == 0

    def night(*options: str, **settings: Any) -> tuple[int, str, str]:
        given = {
            "hidden_sizes": 16,
            "epochs": 12,
            "validation_size": 0,
            "batch_size": 16,
            "seed": 1,
            **settings,
        }
        assignments = [f"{name}={value}" for name, value in given.items()]
        command = ["retrain", "--dataset", "inbox", "--preset", "quick", *options]
        capsys.readouterr()
        code = main([*command, "--set", *assignments])
        shown = capsys.readouterr()
        return code, " ".join(shown.out.split()), " ".join(shown.err.split())

    code, said, _ = night("--floor", "1")
    assert (code, "is below the floor" in said) == (3, True), said
    assert Store().models.champion() is None
    code, said, _ = night()
    assert (code, "is the champion" in said) == (0, True), said
    code, said, _ = night()
    assert code == 0, said
    code, said, err = night("--quiet", epochs=1)
    assert (code, said) == (3, "")
    assert "is rejected" in err
    # New images every night, under one name.
    write_dataset(files, training=600, test=200)
    code, said, _ = night("--model", "other")
    assert (code, "is the champion" in said) == (0, True), said
    assert sorted(Store().models.state().with_champions()) == ["inbox", "other"]
    (files / "t10k-labels-idx1-ubyte.gz").unlink()
    code, _, err = night()
    assert (code, "inbox: expected the file" in err) == (2, True), err


@pytest.mark.parametrize("option", ["--floor", "--max-class-drop", "--min-improvement"])
@pytest.mark.parametrize("value", ["1.01", "-0.1", "half"])
def test_shares_are_checked_before_any_work(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retrain", "--dataset", "sample", option, value]) == 2
    assert option in capsys.readouterr().err
