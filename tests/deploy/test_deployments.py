"""The deployments of `prefect.yaml`, on a real server with a real worker."""

import base64
import datetime
import importlib
import inspect
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image

from digitflow.tasks.data.datasets.sources import DATASETS
from digitflow.tasks.reporting.report import FIGURES
from tests.data.pictures.drawing import seven
from tests.mnist import ROOT, has_mnist, mnist_folder
from tests.patience import wait_for
from tests.servers.fixtures import (
    CREATE_POOL,
    DEPLOY,
    LIST_NEXT_RUNS,
    RUN_TRAIN,
    START_MONITOR,
    START_SERVER,
    START_WORKER,
    TELL_OF_CHANGE,
    Deployed,
)
from tests.servers.prefect_server import own_name

DECLARED: dict[str, dict[str, Any]] = {
    each["name"]: each
    for each in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
}
PNG = re.compile(r'<img [^>]*src="data:image/png;base64,([^"]+)">')
KEYS = {f"digitflow-{name.replace('_', '-')}": name for name in FIGURES}


def stage_states(deployed: Deployed, run: dict[str, Any]) -> dict[str, str]:
    """The name of the final state of each stage of a run, without `publish`."""
    asked = {"flow_runs": {"id": {"any_": [run["id"]]}}, "limit": 200}

    def ended() -> dict[str, str] | None:
        # Task runs reach the server as events, a moment after the run has ended.
        tasks = deployed.server.ask("/task_runs/filter", asked)
        if any(task["state_type"] in ("PENDING", "RUNNING", "SCHEDULED") for task in tasks):
            return None
        return {task["name"]: task["state_name"] for task in tasks if task["name"] != "publish"}

    return wait_for(ended, "the last states of the run's tasks")


def pictures(markdown: str) -> list[bytes]:
    return [base64.b64decode(text, validate=True) for text in PNG.findall(markdown)]


@pytest.mark.parametrize("name", DECLARED)
def test_parameters_are_those_of_the_flow(name: str) -> None:
    """Prefect itself accepts a misspelt name in the file, and the run fails at night."""
    declared = DECLARED[name]
    module, _, flow = declared["entrypoint"].rpartition(".")
    function = getattr(importlib.import_module(module), flow).fn
    assert set(declared["parameters"]) <= set(inspect.signature(function).parameters)
    if "dataset" in inspect.signature(function).parameters:
        assert declared["parameters"]["dataset"] == "mnist"  # named: never replaced by the sample


@pytest.mark.parametrize("command", [LIST_NEXT_RUNS, RUN_TRAIN, TELL_OF_CHANGE])
def test_readme_gives_the_commands(command: str) -> None:
    assert f"\n.venv/bin/{command}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        *(START_SERVER, CREATE_POOL, DEPLOY, START_WORKER, START_MONITOR),
        *(LIST_NEXT_RUNS, RUN_TRAIN, TELL_OF_CHANGE),
    ],
)
def test_the_document_gives_the_commands(command: str) -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert f"\n{command}\n" in text


@pytest.mark.prefect
class TestDeployments:
    @pytest.mark.parametrize("name", DECLARED)
    def test_are_what_the_file_declares(self, deployed: Deployed, name: str) -> None:
        found = deployed.read(name)
        assert found["description"] == DECLARED[name]["description"]
        assert found["tags"] == DECLARED[name]["tags"]
        assert found["parameters"] == DECLARED[name]["parameters"]
        assert found["work_pool_name"] == "digitflow"
        # The test's copy of the project is no checkout, and is deployed all the same.
        assert found["version"] == "unversioned"
        assert not found["paused"]

    @pytest.mark.parametrize("name", DECLARED)
    def test_name_no_folder_of_the_machine_that_deployed(
        self, deployed: Deployed, name: str
    ) -> None:
        text = json.dumps(deployed.read(name))
        assert str(deployed.folder) not in text
        assert sys.prefix not in text

    def test_next_nights_are_scheduled(self, deployed: Deployed) -> None:
        london = ZoneInfo("Europe/London")

        def scheduled() -> list[datetime.datetime]:
            runs = deployed.runs("retrain-nightly", "SCHEDULED")
            starts = [datetime.datetime.fromisoformat(run["expected_start_time"]) for run in runs]
            return sorted(start.astimezone(london) for start in starts)

        now = datetime.datetime.now(london)
        nights = wait_for(
            lambda: found if len(found := scheduled()) >= 3 else None, "three scheduled runs"
        )
        assert now < nights[0] <= now + datetime.timedelta(days=1, hours=2)
        assert {night.strftime("%H:%M") for night in nights} == {"04:15"}
        days = [night.date() for night in nights]
        assert days == [days[0] + datetime.timedelta(days=n) for n in range(len(days))]

    def test_the_command_lists_the_next_nights(self, deployed: Deployed) -> None:
        done = deployed.server.prefect(*shlex.split(LIST_NEXT_RUNS)[1:], folder=deployed.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        names = [run["name"] for run in deployed.runs("retrain-nightly", "SCHEDULED")]
        # A narrow table cuts names off.
        assert sum(name[:6] in done.stdout for name in names) >= 3

    def test_one_retraining_at_a_time(self, deployed: Deployed) -> None:
        """Two at once: the second waits, and is judged against what the first one promoted."""
        found = deployed.read("retrain-nightly")
        assert found["global_concurrency_limit"]["limit"] == 1
        assert found["concurrency_options"]["collision_strategy"] == "ENQUEUE"

    def test_deploying_again_changes_nothing(self, deployed: Deployed) -> None:
        before = {name: deployed.read(name) for name in DECLARED}
        again = deployed.server.prefect("--no-prompt", "deploy", "--all", folder=deployed.folder)
        assert again.returncode == 0, again.stdout + again.stderr
        for name, old in before.items():
            new = deployed.read(name)
            for key in ("id", "parameters", "tags", "pull_steps", "entrypoint"):
                assert new[key] == old[key]
            assert len(new["schedules"]) == len(old["schedules"])


@pytest.mark.prefect
class TestRun:
    def test_takes_the_changed_parameter(
        self, deployed: Deployed, first_run: dict[str, Any]
    ) -> None:
        dataset = deployed.dataset
        assert first_run["parameters"] == {
            "dataset": dataset,
            "preset": "tutorial",
            "epochs": 5,
        }
        assert set(first_run["tags"]) >= {"training", dataset, "tutorial"}
        states = stage_states(deployed, first_run)
        assert set(states.values()) == {"Completed"}
        assert {"train", "evaluate", "plot", "decode-training-images"} <= set(states)

    def test_leaves_its_results_where_the_worker_was_started(
        self, deployed: Deployed, first_run: dict[str, Any]
    ) -> None:
        results = deployed.worked_in / "results" / own_name(first_run)
        report = json.loads((results / "run.json").read_text(encoding="utf-8"))
        assert report["parameters"]["epochs"] == 5
        assert len((results / "history.csv").read_text(encoding="utf-8").splitlines()) == 1 + 5
        for name in FIGURES:
            assert (results / "figures" / f"{name}.png").is_file()

    def test_report_has_pictures(self, deployed: Deployed, first_run: dict[str, Any]) -> None:
        artifacts = deployed.artifacts(first_run)
        results = deployed.worked_in / "results" / own_name(first_run) / "figures"
        files = {path.stem: path.read_bytes() for path in results.glob("*.png")}
        inside = pictures(artifacts["digitflow-report"]["data"])
        assert len(inside) >= 2
        assert all(picture in files.values() for picture in inside)
        for key, name in KEYS.items():
            assert pictures(artifacts[key]["data"]) == [files[name]]
        # The server stores each twice and hands out whole lists.
        assert max(len(str(artifact["data"])) for artifact in artifacts.values()) < 300_000

    def test_tables(self, deployed: Deployed, first_run: dict[str, Any]) -> None:
        artifacts = deployed.artifacts(first_run)
        history = json.loads(artifacts["digitflow-history"]["data"])
        assert [row["epoch"] for row in history] == [0, 1, 2, 3, 4]
        if deployed.dataset == "mnist":  # the tutorial's own first row
            assert round(history[0]["test_accuracy"], 3) == 0.582
        per_class = json.loads(artifacts["digitflow-per-class"]["data"])
        assert [row["class"] for row in per_class] == [str(digit) for digit in range(10)]
        assert sum(row["images"] for row in per_class) == 1000

    def test_progress_ends_at_100_percent(
        self, deployed: Deployed, first_run: dict[str, Any]
    ) -> None:
        progress = deployed.artifacts(first_run)["train-progress"]
        assert progress["type"] == "progress"
        assert progress["data"] == 100
        assert "5 of 5 epochs" in progress["description"]

    def test_again_is_served_from_the_cache_with_the_same_report(
        self, deployed: Deployed, first_run: dict[str, Any]
    ) -> None:
        started = deployed.start(
            "train", parameters={"epochs": 5, "dataset": deployed.dataset, "preset": "tutorial"}
        )
        run = deployed.server.finished(started["id"])
        assert run["state_type"] == "COMPLETED", run["state"]["message"]
        states = stage_states(deployed, run)
        assert set(states.values()) == {"Cached"}
        assert set(states) == set(stage_states(deployed, first_run))
        first, second = deployed.artifacts(first_run), deployed.artifacts(run)
        for key in ("digitflow-history", "digitflow-per-class"):
            assert second[key]["data"] == first[key]["data"]
        for key in ("digitflow-report", *KEYS):
            assert pictures(second[key]["data"]) == pictures(first[key]["data"]) != []
            # One key in all runs: the UI's history of an artifact compares them.
            latest = deployed.server.ask(f"/artifacts/{key}/latest")
            assert latest["flow_run_id"] == run["id"]

    @pytest.mark.parametrize(("given", "said"), [("epoch=2", "'epoch'"), ("epochs=0", "'epochs'")])
    def test_the_command_refuses_a_wrong_parameter(
        self, deployed: Deployed, given: str, said: str
    ) -> None:
        before = len(deployed.runs("train"))
        done = deployed.server.prefect(
            *("deployment", "run", "digitflow/train", "--param", given), folder=deployed.folder
        )
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        assert len(deployed.runs("train")) == before

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("epochs", 10_001),
            ("epochs", "many"),
            ("learning_rate", -1),
            ("preset", "turtorial"),
            ("until", "everything"),
            ("refresh", ["trian"]),
        ],
    )
    def test_the_form_is_refused_a_wrong_value(
        self, deployed: Deployed, name: str, value: Any
    ) -> None:
        before = len(deployed.runs("train"))
        refusal = deployed.server.answer(
            f"/deployments/{deployed.read('train')['id']}/create_flow_run",
            {"parameters": {name: value}},
        )
        assert refusal.status_code == 409
        assert f"'{name}" in refusal.text
        assert len(deployed.runs("train")) == before


@pytest.mark.prefect
@pytest.mark.data
@pytest.mark.skipif(not has_mnist(), reason=f"no MNIST files in {mnist_folder()}")
def test_wrong_bytes_fail_the_run_and_say_why(deployed: Deployed, tmp_path: Path) -> None:
    for file in DATASETS["mnist"].files:
        shutil.copy(mnist_folder() / file.name, tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(labels.read_bytes())
    content[100] ^= 1
    labels.write_bytes(content)
    empty_store = {"env": {"DIGITFLOW_STORE": str(tmp_path / "store")}}
    started = deployed.start(
        "train",
        parameters={"dataset": "mnist", "preset": "tutorial", "mirror": str(tmp_path)},
        job_variables=empty_store,
    )
    run = deployed.server.finished(started["id"])
    assert run["state_type"] == "FAILED"
    message = run["state"]["message"]
    assert "t10k-labels-idx1-ubyte.gz could not be had from any mirror" in message
    assert f"{tmp_path}: " in message
    assert "SHA-256" in message
    # What Prefect keeps of the failure is no pickle.
    assert run["state"]["data"]["serializer"]["type"] == "json"
    assert "digitflow-report" not in deployed.artifacts(run)
    assert not (deployed.worked_in / "results" / own_name(run)).exists()


@pytest.mark.prefect
class TestPredictions:
    def test_a_folder_of_pictures(
        self, deployed: Deployed, first_run: dict[str, Any], tmp_path: Path
    ) -> None:
        """The model of the first run, named: whether there is a champion yet does not matter."""
        for number in range(12):
            Image.fromarray(seven(ink=5 * number)).save(tmp_path / f"{number:02}.png")
        started = deployed.start(
            "predict-batch", parameters={"pictures": str(tmp_path), "model": 1, "sheet": 10}
        )
        run = deployed.server.finished(started["id"])
        assert run["state_type"] == "COMPLETED", run["state"]["message"]
        results = deployed.worked_in / "results" / run["name"]
        assert len((results / "predictions.csv").read_text().splitlines()) == 1 + 12
        artifacts = deployed.artifacts(run)
        (sheet,) = pictures(artifacts["digitflow-predictions"]["data"])
        assert sheet == (results / "contact_sheet.png").read_bytes()
        table = json.loads(artifacts["digitflow-predicted-classes"]["data"])
        assert sum(row["pictures"] for row in table) == 12

    @pytest.mark.parametrize(
        ("name", "value"), [("sheet", 0), ("model", "newest"), ("pictures", None)]
    )
    def test_the_form_is_refused_a_wrong_value(
        self, deployed: Deployed, name: str, value: Any
    ) -> None:
        refusal = deployed.server.answer(
            f"/deployments/{deployed.read('predict-batch')['id']}/create_flow_run",
            {"parameters": {"pictures": "somewhere", name: value}},
        )
        assert refusal.status_code == 409
        assert f"'{name}" in refusal.text
