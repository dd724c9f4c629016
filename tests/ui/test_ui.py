"""What a person sees of a run in both UIs of a real server, in a real browser.

With ``DIGITFLOW_SCREENSHOTS`` set to a folder the pictures of the documentation are made there:
``DIGITFLOW_SCREENSHOTS=docs/images make test-ui``.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.config import Parameters
from tasks.report import FIGURES
from tests.servers.fixtures import Deployed

pytest.importorskip("selenium", reason="selenium is not installed: make install")

from tests.ui.browser import PROGRAMS, Browser, running_browser  # noqa: E402

pytestmark = [
    pytest.mark.ui,
    pytest.mark.prefect,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)),
        reason=f"needs {' and '.join(PROGRAMS)} (Debian: apt-get install chromium chromium-driver)",
    ),
]

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
def pages(deployed: Deployed, run: dict[str, Any]) -> dict[str, str]:
    """The page of each artifact of the run, by key."""
    artifacts = deployed.artifacts(run)
    return {key: f"/artifacts/artifact/{each['id']}" for key, each in artifacts.items()}


@pytest.fixture
def save(browser: Browser, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """Save what the browser shows, where the documentation's pictures belong if so wished."""
    folder = Path(os.environ.get("DIGITFLOW_SCREENSHOTS") or tmp_path)

    def save(name: str) -> None:
        path = folder / name
        browser.save_screenshot(path)
        assert 10_000 < path.stat().st_size < 200_000

    return save


@both
def test_run_page(browser: Browser, run: dict[str, Any], save: Any, ui: str) -> None:
    browser.open(f"{ui}/runs/flow-run/{run['id']}", run["name"], "Completed", "tutorial")
    browser.click("Artifacts")
    browser.wait_for_text("digitflow-report", "Report · ", "train: 20 of 20 epochs")
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
def test_next_nights_are_shown(browser: Browser, deployed: Deployed, ui: str) -> None:
    browser.open(f"{ui}/deployments/deployment/{deployed.read('retrain-nightly')['id']}", "04:15")
    browser.click("Upcoming")
    browser.wait_for_text("auto-scheduled")
