"""What a person sees of a run in both UIs of a real server, in a real browser.

With ``DIGITFLOW_TEST_SCREENSHOTS`` set to a folder the documentation's pictures are made there:
``DIGITFLOW_TEST_SCREENSHOTS=docs/images make test-ui``.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digitflow.tasks.parameters import Parameters
from digitflow.tasks.reporting.report import FIGURES
from tests.patience import wait_for
from tests.servers.fixtures import Deployed

pytest.importorskip("selenium", reason="selenium is not installed: make install")

from tests.ui.browser import IN_A_BROWSER, Browser, running_browser  # noqa: E402

pytestmark = [*IN_A_BROWSER, pytest.mark.prefect]

V1, V2 = "", "/v2"
both = pytest.mark.parametrize("ui", [V1, V2], ids=["v1", "v2"])


@pytest.fixture(scope="module")
def browser(deployed: Deployed) -> Iterator[Browser]:
    with running_browser(deployed.server.url) as browser:
        yield browser


@pytest.fixture(scope="module")
def run(deployed: Deployed) -> dict[str, Any]:
    """A run of `train` as it stands, started as from the form."""
    dataset = {} if deployed.dataset == "mnist" else {"dataset": deployed.dataset}
    started = deployed.start("train", parameters=dataset)
    finished = deployed.server.finished(started["id"])
    assert finished["state_type"] == "COMPLETED", finished["state"]["message"]
    return finished


@pytest.fixture(scope="module")
def rejected(deployed: Deployed) -> dict[str, Any]:
    """A retraining whose model did not pass the gate, after one that left a champion."""
    dataset = {} if deployed.dataset == "mnist" else {"dataset": deployed.dataset}
    first = deployed.server.finished(
        deployed.start("retrain-nightly", parameters={**dataset, "floor": 0.0})["id"]
    )
    assert first["state_name"] in ("Promoted", "Unchanged", "Rejected"), first["state"]["message"]
    worse = {**dataset, "epochs": 3, "seed": 7, "floor": 1.0}
    run = deployed.server.finished(deployed.start("retrain-nightly", parameters=worse)["id"])
    assert run["state_name"] == "Rejected", run["state"]["message"]
    return run


def pages_of(deployed: Deployed, run: dict[str, Any]) -> dict[str, str]:
    """The page of each artifact of a run, by key."""
    artifacts = deployed.artifacts(run)
    return {key: f"/artifacts/artifact/{each['id']}" for key, each in artifacts.items()}


@pytest.fixture(scope="module")
def pages(deployed: Deployed, run: dict[str, Any]) -> dict[str, str]:
    """The page of each artifact of the run, by key."""
    return pages_of(deployed, run)


@pytest.fixture
def save(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Save what the browser shows, where the documentation's pictures belong if so wished."""
    folder = Path(os.environ.get("DIGITFLOW_TEST_SCREENSHOTS") or tmp_path)

    def save(name: str) -> None:
        path = folder / name
        browser.save_screenshot(path)
        assert 10_000 < path.stat().st_size < 150_000

    return save


@both
def test_run_page(browser: Browser, run: dict[str, Any], save: Any, ui: str) -> None:
    browser.open(f"{ui}/runs/flow-run/{run['id']}", run["name"], "Completed", "tutorial")
    browser.click("Artifacts")
    browser.wait_for_text("digitflow-report", "Report · ")
    if ui == V2:  # V1 lists what tasks leave below, once somebody scrolls there
        browser.wait_for_text("train: 20 of 20 epochs")
    browser.click("Task Runs")
    browser.wait_for_text("publish", "plot")
    if ui == V1:
        save("ui-run.png")


@both
def test_report(browser: Browser, pages: dict[str, str], save: Any, ui: str) -> None:
    browser.open(ui + pages["digitflow-report"], "test accuracy", "Confusion matrix", "Stages")
    widths = browser.wait_for_pictures(2)
    assert set(widths) == {"Learning curves", "Confusion matrix"}
    assert min(widths.values()) > 400
    assert "learning_rate" in browser.text()
    if ui == V2:
        save("ui-report.png")


@both
@pytest.mark.parametrize("figure", FIGURES)
def test_each_figure_is_a_picture(
    browser: Browser, pages: dict[str, str], ui: str, figure: str
) -> None:
    browser.open(f"{ui}{pages['digitflow-' + figure.replace('_', '-')]}", FIGURES[figure])
    [(title, width)] = browser.wait_for_pictures(1).items()
    assert title == FIGURES[figure]
    assert width > 400


@both
def test_tables_have_rows(browser: Browser, pages: dict[str, str], ui: str) -> None:
    browser.open(ui + pages["digitflow-per-class"], "precision", "recall", "f1")
    assert "No results" not in browser.text()
    browser.open(ui + pages["digitflow-history"], "train_loss", "test_accuracy")
    assert "No results" not in browser.text()


@both
def test_progress_is_complete(browser: Browser, pages: dict[str, str], ui: str) -> None:
    browser.open(ui + pages["train-progress"], "train: 20 of 20 epochs", "100%")


@both
def test_form_describes_every_parameter(browser: Browser, deployed: Deployed, ui: str) -> None:
    deployment = deployed.read("train")["id"]
    browser.open(f"{ui}/deployments/deployment/{deployment}/run", "Parameters")
    browser.wait_for_text(*(str(each.description) for each in Parameters.model_fields.values()))


@both
def test_a_run_from_the_form_and_its_pictures(
    browser: Browser, deployed: Deployed, save: Any, ui: str
) -> None:
    deployment = deployed.read("train")["id"]
    before = {run["id"] for run in deployed.runs("train")}
    epochs = {V1: 2, V2: 3}[ui]
    browser.open(f"{ui}/deployments/deployment/{deployment}/run", "Parameters", "epochs (Optional)")
    if deployed.dataset != "mnist":
        browser.write("dataset", deployed.dataset)
    browser.fill_in("epochs", "int", str(epochs))
    if ui == V2:
        save("ui-form.png")
    browser.click("Submit")
    # What the page says of it goes away after some seconds, seen or not.
    started = wait_for(
        lambda: next((run for run in deployed.runs("train") if run["id"] not in before), None),
        "a run from the form",
    )
    assert started["parameters"]["epochs"] == epochs
    run = deployed.server.finished(started["id"])
    assert run["state_type"] == "COMPLETED", run["state"]["message"]

    browser.open(f"{ui}/runs/flow-run/{run['id']}", run["name"], "Completed")
    browser.click("Artifacts")
    browser.wait_for_text("digitflow-report")
    pages = pages_of(deployed, run)
    browser.open(ui + pages["digitflow-report"], run["name"].rpartition(" · ")[2], "epochs")
    assert set(browser.wait_for_pictures(2)) == {"Learning curves", "Confusion matrix"}
    browser.open(ui + pages["digitflow-learning-curves"])
    assert set(browser.wait_for_pictures(1)) == {"Learning curves"}


@both
@pytest.mark.parametrize("epochs", ["0", "10001"])
def test_the_form_refuses_what_is_out_of_bounds(
    browser: Browser, deployed: Deployed, ui: str, epochs: str
) -> None:
    deployment = deployed.read("train")["id"]
    before = len(deployed.runs("train"))
    browser.open(f"{ui}/deployments/deployment/{deployment}/run", "Parameters", "epochs (Optional)")
    browser.fill_in("epochs", "int", epochs)
    browser.click("Submit")
    if ui == V1:  # asks the server, and shows what that says
        browser.wait_for_text(f"{epochs} is not valid under any of the given schemas")
    else:  # the field itself says it, in a bubble of the browser's own
        bound = {"0": "greater than or equal to 1", "10001": "less than or equal to 10000"}[epochs]
        browser.wait_for_complaint(f"Value must be {bound}.")
    assert len(deployed.runs("train")) == before


@both
def test_a_rejection_is_seen_at_a_glance(
    browser: Browser, deployed: Deployed, rejected: dict[str, Any], save: Any, ui: str
) -> None:
    browser.open(f"{ui}/runs", rejected["name"], "Rejected")
    browser.open(f"{ui}/runs/flow-run/{rejected['id']}", rejected["name"], "Rejected")
    browser.click("Artifacts")
    browser.wait_for_text("digitflow-decision", " is rejected")
    browser.open(
        ui + pages_of(deployed, rejected)["digitflow-decision"],
        "accuracy of at least 1.0000",
        "recall of 9",
        "Has the data changed?",
        "McNemar's exact test",
    )
    assert "| " not in browser.text()  # tables are tables
    if ui == V2:
        save("ui-decision.png")


@both
def test_next_nights_are_shown(browser: Browser, deployed: Deployed, ui: str) -> None:
    browser.open(f"{ui}/deployments/deployment/{deployed.read('retrain-nightly')['id']}", "04:15")
    browser.click("Upcoming")
    browser.wait_for_text("auto-scheduled")


def test_a_person_answers_the_gate(browser: Browser, deployed: Deployed) -> None:
    """In the form of the run's page; the worker is free meanwhile, and takes the run up again."""
    parameters = {"dataset": deployed.dataset, "model": "asked", "floor": 0.0}
    asking = deployed.start("retrain-nightly", parameters={**parameters, "approval": "always"})

    def is_suspended() -> bool:
        return bool(deployed.server.ask(f"/flow_runs/{asking['id']}")["state_name"] == "Suspended")

    wait_for(is_suspended, "the question")
    limit = deployed.read("retrain-nightly")["global_concurrency_limit"]
    assert limit["active_slots"] == 0
    browser.open(f"{V2}/runs/flow-run/{asking['id']}", "Suspended")
    browser.choose_in_menu("Resume")
    browser.wait_for_text(
        "passed the gate and waits for a person's verdict", "Is it to be the champion?"
    )
    browser.choose("Verdict", "promote")
    browser.answer("Reason", "reads sevens")
    browser.answer("Name", "ann")
    browser.press("Resume")
    run = deployed.server.finished(asking["id"])
    assert run["state_name"] == "Promoted", run["state"]["message"]
    assert "approved by ann in the Prefect UI: reads sevens" in run["state"]["message"]
