"""The HTML report in a browser: whole at every width, offline, in light, in dark and on paper."""

import base64
import io
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("selenium", reason="selenium is not installed: make install")

from digitflow.tasks.reporting.html_report import page  # noqa: E402
from digitflow.tasks.reporting.report import FIGURES  # noqa: E402
from tests.reporting.test_cards import CONFUSION, METRICS, TRAINING, TWO  # noqa: E402
from tests.reporting.test_html_report import HOSTILE, contents, summary  # noqa: E402
from tests.ui.browser import IN_A_BROWSER, Browser, running_browser  # noqa: E402

pytestmark = IN_A_BROWSER

DECISION = "# Version 5 is rejected\n\n| demanded | met |\n|---|---|\n| floor | **no** |\n"


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("L", (990, 400), 128).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("report")
    figures = dict.fromkeys(FIGURES, picture())
    known = {"source": TWO, "named": HOSTILE, "metrics": METRICS}
    shown = summary(name=HOSTILE, decision=DECISION, **known)
    text = page(shown, contents(figures=figures, confusion=CONFUSION, training=TRAINING))
    (folder / "report.html").write_text(text, encoding="utf-8")
    with running_browser(folder.as_uri()) as browser:
        yield browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_fits_every_screen(browser: Browser, width: int, scheme: str) -> None:
    command = browser.driver.execute_cdp_cmd
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    command("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    command("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.open("/report.html", "Version 5 is rejected", "Model card", "Datasheet", HOSTILE)
    assert browser.wait_for_pictures(len(FIGURES)) == dict.fromkeys(FIGURES.values(), 990)
    shown: dict[str, Any] = browser.driver.execute_script(
        "return {width: document.documentElement.scrollWidth,"
        " paper: getComputedStyle(document.body).backgroundColor}"
    )
    assert shown["width"] == width
    assert (shown["paper"] == "rgb(255, 255, 255)") == (scheme == "light")
    assert browser.driver.get_log("browser") == []


def test_prints(browser: Browser) -> None:
    browser.open("/report.html", "Version 5 is rejected")
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
