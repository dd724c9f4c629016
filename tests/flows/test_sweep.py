"""Sweeps on a real Prefect engine, with real Dask workers."""

import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from digitflow.flows.cli.app import app
from digitflow.flows.cli.arguments import RunArguments
from digitflow.flows.sweep import sweep
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.sources import Dataset
from digitflow.tasks.parameters import resolve
from digitflow.tasks.sweeps.ranking import Outcome
from digitflow.tasks.sweeps.report import SweepSummary, points_table
from tests.flows.test_workers import dask_cluster
from tests.patience import PATIENCE, wait_for
from tests.servers.prefect_server import PrefectServer
from tests.walk import walk

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

FIXED = {
    "preset": "quick",
    "training_sample": 40,
    "test_sample": 20,
    "epochs": 2,
    "validation_size": 20,
    "batch_size": 8,
    "dpi": 40,
}
ROWS = ["learning_rate=0.01,0.02", "hidden_sizes=8,12-8"]


def parameters(outcome: Outcome, **changes: Any) -> Any:
    fixed = {name: value for name, value in FIXED.items() if name != "preset"}
    return resolve("quick", {**fixed, **outcome.point.values, **changes})


def run(dataset: Path, *rows: str, **options: Any) -> SweepSummary:
    found: SweepSummary = sweep(dataset=str(dataset), **FIXED, **options, grid=rows or ROWS)
    return found


def keys(summary: SweepSummary) -> dict[str, str | None]:
    return {outcome.point.label: outcome.key for outcome in summary.ranked}


def test_a_sweep(
    tiny: Dataset, tiny_directory: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    summary = run(tiny_directory, workers=2)
    assert [outcome.status for outcome in summary.ranked] == ["ran"] * 4
    accuracies = [outcome.scores["validation_accuracy"] for outcome in summary.ranked]
    assert accuracies == sorted(accuracies, reverse=True)
    assert (summary.epochs, summary.all_epochs) == (8, 8)

    # Every point is the training that `digitflow run` would do, to the last bit.
    cache, serial = Store(), Store(tmp_path / "serial")
    for outcome in summary.ranked:
        alone = walk(serial, tiny, parameters(outcome)).results["train"]
        assert alone.key == outcome.key
        record = cache.records.load("train", alone.key)
        assert record is not None
        assert record.outputs == alone.outputs

    # The winner's run is there as if it had been run alone, and the sweep beside it.
    done = walk(cache, tiny, parameters(summary.ranked[0]))
    assert done.ran == []
    assert summary.run.model == 1
    folder = summary.run.folder
    assert (folder / "figures" / "sweep.png").is_file()
    assert len((folder / "points.csv").read_text().splitlines()) == 5
    record = json.loads((folder / "run.json").read_text())
    assert [point["key"] for point in record["sweep"]["points"]] == list(keys(summary).values())
    assert {"points.csv", "figures/sweep.png", "model.npz"} <= set(record["files"])

    # In the UI: a task a point, the ranking, and a report with picture and command.
    asked = {"flow_runs": {"name": {"like_": summary.run.name}}}
    (flow_run,) = prefect_server.ask("/flow_runs/filter", asked)
    assert "sweep" in flow_run["tags"]
    of_run = {"artifacts": {"flow_run_id": {"any_": [flow_run["id"]]}}}
    made = {each["key"]: each for each in prefect_server.ask("/artifacts/filter", of_run)}
    assert json.loads(made["digitflow-sweep-points"]["data"]) == points_table(summary)
    report = made["digitflow-sweep"]["data"]
    assert "data:image/png;base64," in report
    assert summary.command in report

    def names() -> set[str] | None:
        tasks = prefect_server.ask(
            "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run["id"]]}}}
        )
        ended = {task["name"] for task in tasks if task["state_type"] == "COMPLETED"}
        return ended if len(ended) >= 17 else None

    labels = {f"train {outcome.point.label}" for outcome in summary.ranked}
    assert labels <= wait_for(names, "the states of the tasks")

    # A second time it trains nothing and starts no workers; with more values, only what is new.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("digitflow.flows.workers.LocalCluster", lambda **_: pytest.fail("a cluster"))
        again = run(tiny_directory)
    assert [outcome.status for outcome in again.ranked] == ["cached"] * 4
    assert (keys(again), again.epochs) == (keys(summary), 0)
    more = run(tiny_directory, "learning_rate=0.01,0.02,0.03", ROWS[1], workers=1)
    assert sorted(outcome.status for outcome in more.ranked) == ["cached"] * 4 + ["ran"] * 2

    # Its command is one that this program takes, and holds nothing back for validation.
    words = shlex.split(summary.command)
    _, bound, _ = app.parse_args(words[1:], exit_on_error=False)
    arguments = bound.arguments["arguments"]
    assert isinstance(arguments, RunArguments)
    all_data = {"validation_size": 0, "training_sample": 0}
    assert arguments.spec().parameters == parameters(summary.ranked[0], **all_data)


def test_on_a_cluster_that_is_there_with_a_point_that_fails(
    tiny_directory: Path, tmp_path: Path
) -> None:
    rows = ("learning_rate=0.01,9", "optimizer=sgd", "momentum=0.9,0.99", "hidden_sizes=64-64")
    with dask_cluster(tmp_path / "dask", DIGITFLOW_STORE=str(tmp_path / "store")) as address:
        summary = run(tiny_directory, *rows, scheduler=address)
    *good, first, second = summary.ranked
    assert all(outcome.scores for outcome in good)
    for failed in (first, second):
        assert failed.point.values["learning_rate"] == 9
        assert "Training diverged in epoch" in str(failed.error)
    assert "–" in [row["rank"] for row in points_table(summary)]


def test_nothing_is_won_where_every_point_fails(tiny_directory: Path) -> None:
    with pytest.raises(Exception, match="none of the 2 points could be trained; the first, learni"):
        run(tiny_directory, "learning_rate=9,10", "optimizer=sgd", "hidden_sizes=64-64", workers=2)


def test_successive_halving(tiny: Dataset, tiny_directory: Path, tmp_path: Path) -> None:
    rows = ["learning_rate=0.001,0.01,0.02", "hidden_sizes=8,12,16"]
    given = {**FIXED, "epochs": 6}
    early: SweepSummary = sweep(
        dataset=str(tiny_directory), **given, grid=rows, early_stop="successive-halving", workers=2
    )
    statuses = [outcome.status for outcome in early.ranked]
    assert statuses == ["ran"] * 3 + ["stopped"] * 6
    # Each rung is a task of its own in the UI, named after its point.
    records = list(Store().records.of_stage("rung"))
    assert sorted(record.label for record in records)[0] == (
        "rung 1 learning_rate=0.001 hidden_sizes=12"
    )
    assert len(records) == 9
    # A rung after the first epoch, and three go on to the sixth.
    assert [outcome.epochs for outcome in early.ranked] == [6] * 3 + [1] * 6
    assert (early.epochs, early.all_epochs) == (9 + 3 * 5, 9 * 6)
    # What was trained to the end in parts is the training that is done at once.
    for outcome in early.ranked[:3]:
        serial = Store(tmp_path / "serial")
        alone = walk(serial, tiny, parameters(outcome, epochs=6)).results["train"]
        assert alone.key == outcome.key
        record = Store().records.load("train", alone.key)
        assert record is not None
        assert record.outputs == alone.outputs
    # Without workers: every rung is cached.
    again: SweepSummary = sweep(
        dataset=str(tiny_directory), **given, grid=rows, early_stop="successive-halving"
    )
    assert (again.epochs, keys(again)) == (0, keys(early))


def test_ctrl_c_keeps_what_is_finished(
    tiny: Dataset, tiny_directory: Path, tmp_path: Path, prefect_server: PrefectServer
) -> None:
    fixed = [f"{name}={value}" for name, value in FIXED.items() if name not in ("preset", "epochs")]
    command = [
        sys.executable,
        "-m",
        "digitflow",
        "sweep",
        "--dataset",
        str(tiny_directory),
        "--set",
    ]
    command += [*fixed, "--grid", "epochs=2,10000", "--grid", "hidden_sizes=8", "--workers", "2"]
    store = tmp_path / "store"
    environment = {
        **prefect_server.environment,
        "DIGITFLOW_STORE": str(store),
        "COLUMNS": "200",
    }
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:

        def one_is_done_and_the_other_trains() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"the sweep has ended:\n{log.read_text()}")
            epochs: set[int] = set()
            with suppress(FileNotFoundError):  # the first point takes its folder away
                epochs = {int(path.stem.split("-")[1]) for path in store.glob("scratch/*/*.npz")}
            return "after 2 epochs" in log.read_text() and max(epochs, default=0) > 2

        wait_for(one_is_done_and_the_other_trains, "two points")
        # As a terminal does: to every process of the group.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE) == 130, log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    said = log.read_text()
    assert "stopping in good order" in said
    assert "stopped with 1 of 2 points finished; finished points are cached" in said
    assert "stopped; the same command goes on from here" in said
    assert "Traceback" not in said
    # What is finished is served, and what was begun goes on from where it was.
    cache = Store(store)
    assert len(list(cache.records.of_stage("train"))) == 1
    assert list((cache.root / "scratch").glob("*/*.npz"))
