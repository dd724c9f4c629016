"""The page to draw on, in a browser: a stroke is drawn, and the champion's answer shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("selenium", reason="selenium is not installed: make install")

from selenium.common.exceptions import NoAlertPresentException  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402

from digitflow.storage.store import Store  # noqa: E402
from tests.flows.test_serve import crown, served  # noqa: E402
from tests.patience import wait_for  # noqa: E402
from tests.ui.browser import IN_A_BROWSER, Browser, running_browser  # noqa: E402

pytestmark = IN_A_BROWSER


def draw(browser: Browser, right: int, down: int) -> None:
    """Draw a stroke through the middle of the paper, with the mouse."""
    paper = browser.driver.find_element(By.ID, "paper")
    pen = ActionChains(browser.driver)
    pen.move_to_element_with_offset(paper, -right // 2, -down // 2).click_and_hold()
    for _ in range(10):
        pen.move_by_offset(right // 10, down // 10)
    pen.release().perform()


def complaints(browser: Browser) -> list[Any]:
    return [each for each in browser.driver.get_log("browser") if "favicon" not in each["message"]]


def test_a_stroke_is_drawn_and_answered(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    crown(store)
    with served(store) as client, running_browser(str(client.base_url)) as browser:
        browser.open("/", "Draw one", "Nothing is drawn yet.")
        draw(browser, right=0, down=200)
        browser.wait_for_text("tall, ", "(version 1)", "wide")
        browser.click("Clear")
        browser.wait_for_text("Nothing is drawn yet.")
        draw(browser, right=200, down=0)
        browser.wait_for_text("wide, ")
        assert complaints(browser) == []


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    crown(store)
    with (
        served(store, token="s3cret") as client,
        running_browser(str(client.base_url)) as browser,
    ):
        browser.open("/", "Draw one")
        draw(browser, right=0, down=200)
        wait_for(lambda: prompted(browser), "the question for the token")
        browser.wait_for_text("tall, ")


def prompted(browser: Browser) -> bool:
    """Answer the question for a token, if it is there."""
    try:
        prompt = browser.driver.switch_to.alert
    except NoAlertPresentException:
        return False
    prompt.send_keys("s3cret")
    prompt.accept()
    return True
