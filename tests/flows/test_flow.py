"""The flow on a real Prefect engine: states, artifacts, failures."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from digitflow.flows.train import train
from digitflow.storage.store import Store
from digitflow.tasks.data.datasets.manifest import write_manifest
from digitflow.tasks.data.datasets.sources import DATASETS, from_directory
from digitflow.tasks.data.download.fetch import fetch
from digitflow.tasks.data.download.waiting import Limits
from tests.patience import wait_for
from tests.servers.prefect_server import PrefectServer, own_name
from tests.servers.scripted import Behaviours, Handler, serving
from tests.walk import LABELS, TINY, Walk

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("on_the_server")]

ARTIFACTS = {
    "digitflow-report",
    "digitflow-history",
    "digitflow-per-class",
    "digitflow-learning-curves",
    "digitflow-confusion-matrix",
    "digitflow-mistakes",
    "digitflow-filters",
    "digitflow-gallery",
    "digitflow-training-image",
}


Run = dict[str, Any]


@pytest.fixture
def run(prefect_server: PrefectServer, tiny_directory: Path) -> Callable[..., Run]:
    """Run the flow on the tiny dataset and return its run as the server shows it."""

    def run(**parameters: Any) -> Run:
        given = {"dataset": str(tiny_directory), **TINY, "hidden_sizes": [8], **parameters}
        state: State[Any] = train(**given, return_state=True)
        shown: Run = prefect_server.ask(f"/flow_runs/{state.state_details.flow_run_id}")
        return shown

    return run


def task_states(server: PrefectServer, run: Run, count: int) -> dict[str, str]:
    """Return the final state of each task by name, once the server has heard of so many."""
    ended: dict[str, str] = {}

    def heard_of_all() -> bool:
        # Task runs reach the server as events, a moment after the run has ended.
        for task in server.ask("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}):
            if task["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                ended[task["name"]] = task["state_name"]
        return len(ended) >= count

    wait_for(heard_of_all, f"the ends of {count} tasks")
    return ended


def artifacts(server: PrefectServer, run: Run) -> dict[str, Any]:
    """Return the artifacts of a run by their keys."""
    asked = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    return {each["key"]: each for each in server.ask("/artifacts/filter", asked)}


def test_twice(prefect_server: PrefectServer, run: Callable[..., Run], first: Walk):
    once = run()
    assert once["state_name"] == "Completed"
    assert task_states(prefect_server, once, len(LABELS) + 1) == {
        **dict.fromkeys(LABELS, "Completed"),
        "publish": "Completed",
    }
    assert once["tags"] == sorted({"tiny", "tutorial"})
    assert once["name"] == f"{own_name(once)} · tiny · tutorial · 15.0 %"
    made = artifacts(prefect_server, once)
    assert set(made) == {*ARTIFACTS, "train-progress"}
    assert made["train-progress"]["data"] == 100.0
    assert made["digitflow-report"]["data"].count("data:image/png;base64,") == 2
    assert "15.0 %" in made["digitflow-report"]["description"]

    again = run()
    assert again["state_name"] == "Completed"
    # Each stage shows as cached; publishing is done every time.
    assert task_states(prefect_server, again, len(LABELS) + 1) == {
        **dict.fromkeys(LABELS, "Cached"),
        "publish": "Completed",
    }
    assert set(artifacts(prefect_server, again)) == ARTIFACTS

    # Prefect changes nothing about what comes out, and both runs are on record.
    cache = Store()
    runs = {record.name: record for record in cache.runs.newest_first()}
    assert set(runs) == {own_name(once), own_name(again)}
    digests = {
        f"{stage['name']}.{name}": output["sha256"]
        for stage in runs[own_name(again)].stages
        for name, output in stage["outputs"].items()
    }
    assert digests == first.digests()
    for name in (own_name(once), own_name(again)):
        assert (Path("results") / name / "figures" / "gallery.png").is_file()


def test_a_failing_stage_fails_the_run_with_its_message(
    prefect_server: PrefectServer, run: Callable[..., Run], tiny_directory: Path, tmp_path: Path
):
    tiny = from_directory(tiny_directory)
    nine = replace(tiny, name="nine", labels=tiny.labels[:9], class_names=tiny.class_names[:9])
    write_manifest(tmp_path / "nine.toml", nine)
    failed = run(dataset=str(tmp_path / "nine.toml"))
    assert failed["state_name"] == "Failed"
    message = failed["state"]["message"]
    assert "the training labels should be 0 to 8, found 9 at index 9" in message
    states = task_states(prefect_server, failed, 9)
    assert states["preprocess"] == "Failed"
    assert states["decode-training-images"] == "Completed"
    # What failed and what follows is in nobody's way: run again, with what there is.
    assert task_states(prefect_server, run(until="preprocess"), 9)["preprocess"] == "Completed"
    assert not list(Path("results").glob(f"{own_name(failed)}*"))


def test_what_the_data_cannot_give_is_said_before_any_stage_runs(
    prefect_server: PrefectServer, run: Callable[..., Run]
):
    failed = run(training_sample=41)
    assert "training_sample: expected at most 40, the images" in failed["state"]["message"]
    assert task_states(prefect_server, failed, 0) == {}


def test_what_a_download_waits_for_is_said_in_the_log(
    run: Callable[..., Run],
    tiny_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    # A byte each twentieth of a second is far below.
    floor = Limits(slowest=5_000.0, window=3.0)
    monkeypatch.setitem(fetch.__kwdefaults__, "limits", floor)

    def serve(request: Handler) -> None:
        Behaviours.serve((tiny_directory / Path(request.path).name).read_bytes())(request)

    with serving() as drip, serving() as good:
        drip.script(Behaviours.drip(b"HTTP/1.1 200 OK\r\nX-Slow: "))
        good.script(Behaviours.answer(503, Retry_After=1), serve)
        one = from_directory(tiny_directory)
        write_manifest(tmp_path / "own.toml", replace(one, name="own", mirrors=(good.url,)))
        done = run(dataset=str(tmp_path / "own.toml"), mirror=drip.url, until="decode")
    assert done["state_name"] == "Completed"
    said = [record.getMessage() for record in caplog.records]
    slow = [text for text in said if f"{drip.url}: too slow: " in text]
    assert len(slow) == 4
    assert all(text.endswith(f"; going on with {good.url}") for text in slow)
    busy = f"{good.url}: 503 Service Unavailable, and asks to be left alone for 1 s; asked again in"
    assert len([text for text in said if busy in text]) == 1


def test_a_dataset_that_was_named_is_never_replaced(
    prefect_server: PrefectServer,
    run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    nowhere = replace(DATASETS["mnist"], mirrors=(str(tmp_path / "nowhere"),))
    monkeypatch.setattr(
        "digitflow.tasks.data.datasets.sources.DATASETS", MappingProxyType({"mnist": nowhere})
    )
    failed = run(dataset="mnist", until="download")
    assert failed["state_name"] == "Failed"
    message = failed["state"]["message"]
    assert "could not be had from any mirror" in message
    assert "nowhere: no such directory" in message
    assert "--mirror" in message
    assert "--dataset DIR" in message
    assert (
        len([label for label in task_states(prefect_server, failed, 4) if label.startswith("down")])
        == 4
    )


def test_a_run_may_be_called_anything(tiny_directory: Path):
    for name in ("../../Run #1: ä", "../../Run #1: ö"):
        named = train.with_options(flow_run_name=name)
        named(dataset=str(tiny_directory), until="decode")
    names = [run.name for run in Store().runs.newest_first()]
    assert len(set(names)) == 2
    for name in names:
        assert name.startswith("Run-1-")
        assert (Path("results") / name / "run.json").is_file()


def test_the_example_of_the_document(
    prefect_server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = (Path(__file__).resolve().parents[2] / "docs" / "stages.md").read_text(encoding="utf-8")
    for block in (part.partition("```")[0] for part in text.split("```python\n")[1:]):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    powers = importlib.import_module("powers_flow").powers
    for cached in (False, True):
        result = powers()
        assert result.cached is cached
        assert Store().read(result.outputs["powers"]).tolist() == [0, 1, 8, 27, 64]
    assert powers(exponent=2).reasons == ("parameter exponent 3 → 2",)
