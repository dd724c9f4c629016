"""A headless Chromium that looks at the Prefect UI."""

import base64
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.patience import PATIENCE

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # CI and containers run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--window-size=1400,1000",
)
PROGRAMS = ("chromium", "chromedriver")
# Of every test that looks at a page.
IN_A_BROWSER = [
    pytest.mark.ui,
    pytest.mark.skipif(
        not all(map(shutil.which, PROGRAMS)),
        reason=f"needs {' and '.join(PROGRAMS)} (Debian: apt-get install chromium chromium-driver)",
    ),
]

# Pictures inside a report: how wide each really is once it has been decoded, 0 if it is broken.
_PICTURES = """
return [...document.querySelectorAll('img[src^="data:image/png"]')]
    .filter(image => image.complete && image.getClientRects().length)
    .map(image => ({title: image.alt, width: image.naturalWidth}));
"""
_COMPLAINT = "return document.activeElement.validationMessage;"
_TEXT = "return document.body.innerText;"
_IN_A_DIALOG = "//*[@role='dialog']"


@dataclass(frozen=True)
class Browser:
    """A browser on a server's UI."""

    driver: Chrome
    url: str

    def open(self, path: str, *expected: str) -> None:
        """Open a page and wait until it shows every expected text."""
        self.driver.get(self.url + path)
        self.wait_for_text(*expected)

    def wait_for_text(self, *expected: str) -> None:
        """Wait until the page shows every expected text."""
        self._wait(
            lambda: all(text in self.text() for text in expected),
            lambda: f"no {', '.join(repr(text) for text in expected if text not in self.text())}",
        )

    def wait_for_pictures(self, count: int) -> dict[str, int]:
        """Wait for so many decoded pictures; return the width of each in pixels, by title."""
        self._wait(lambda: len(self._pictures()) >= count, lambda: f"not {count} pictures")
        return {picture["title"]: picture["width"] for picture in self._pictures()}

    def click(self, text: str) -> None:
        """Click what shows exactly this text: a tab, a button, a link."""
        same = f"normalize-space(.)='{text}'"
        innermost = f"//*[{same} and not(.//*[{same}])]"
        self._click(innermost, f"no {text!r} to click")

    def write(self, parameter: str, text: str) -> None:
        """Write a text into a parameter of a run form."""
        self._overwrite(_after(parameter, "textarea"), text)

    def fill_in(self, parameter: str, kind: str, value: str) -> None:
        """Give a parameter of a run form a value of this kind, where it has none."""
        self._click(_after(parameter, f"button[normalize-space(.)='{kind}']"), f"no {parameter}")
        self._overwrite(_after(parameter, "input"), value)

    def choose_in_menu(self, text: str) -> None:
        """Open the menu of what the page is about, and click an entry."""
        self._click("//button[normalize-space(.)='Open menu']", "no menu")
        self.click(text)

    def answer(self, label: str, text: str) -> None:
        """Write a text into the field under a label of a dialog."""
        fields = "*[self::input or self::textarea]"
        self._overwrite(f"({_IN_A_DIALOG}//label[.='{label}']/following::{fields})[1]", text)

    def choose(self, label: str, value: str) -> None:
        """Choose one of the values under a label of a dialog."""
        button = f"({_IN_A_DIALOG}//label[.='{label}']/following::button[.='Select'])[1]"
        self._click(button, f"no {label}")
        self.click(value)

    def press(self, text: str) -> None:
        """Click a button of a dialog."""
        self._click(f"{_IN_A_DIALOG}//button[normalize-space(.)='{text}']", f"no {text}")

    def wait_for_complaint(self, expected: str) -> None:
        """Wait until the field that is being filled in says what is wrong with it."""
        self._wait(
            lambda: self.driver.execute_script(_COMPLAINT) == expected,
            lambda: f"no {expected!r} at the field",
        )

    def text(self) -> str:
        """The text that the page shows."""
        shown: str = self.driver.execute_script(_TEXT)
        return shown

    def save_screenshot(self, path: Path, colours: int = 128) -> None:
        """Save what is shown as a PNG with a palette, which is a quarter of the size."""
        shot = Image.open(io.BytesIO(base64.b64decode(self.driver.get_screenshot_as_base64())))
        path.parent.mkdir(parents=True, exist_ok=True)
        shot.convert("RGB").quantize(colours).save(path, optimize=True)

    def _click(self, path: str, missing: str) -> None:
        def clicked() -> bool:
            shown = [each for each in self._find(path) if each.is_displayed()]
            if shown:
                shown[0].click()
            return bool(shown)

        self._wait(clicked, lambda: missing)

    def _overwrite(self, path: str, text: str) -> None:
        def written() -> bool:
            for field in self._find(path):
                field.send_keys(Keys.CONTROL, "a")
                field.send_keys(text)
                # In the middle of the page, for whoever looks at it.
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", field)
                return field.get_property("value") == text
            return False

        self._wait(written, lambda: f"no field that takes {text!r}")

    def _find(self, path: str) -> list[WebElement]:
        found: list[WebElement] = self.driver.find_elements(By.XPATH, path)
        return found

    def _pictures(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.execute_script(_PICTURES)
        return found

    def _wait(self, condition: Callable[[], object], missing: Callable[[], str]) -> None:
        try:
            # The page may draw itself anew between finding something and using it.
            waiting = WebDriverWait(self.driver, PATIENCE, 0.2, [StaleElementReferenceException])
            waiting.until(lambda _: condition())
        except TimeoutException:
            page = f"{self.driver.current_url}:\n{self.text()[:3000]}"
            raise AssertionError(f"{missing()} on {page}") from None


def _after(parameter: str, element: str) -> str:
    """Where the next such element after a parameter's name is, in a run form."""
    label = f"//*[normalize-space(text())='{parameter} (Optional)']"
    return f"({label}/following::{element})[1]"


@contextmanager
def running_browser(url: str) -> Iterator[Browser]:
    """Run Chromium while the context lasts, with a profile of its own."""
    programs = {name: shutil.which(name) for name in PROGRAMS}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = programs["chromium"] or ""
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = Service(
            programs["chromedriver"],
            env={**os.environ, "HOME": profile},
        )
        driver = Chrome(options=options, service=service)
        try:
            yield Browser(driver, url)
        finally:
            driver.quit()
