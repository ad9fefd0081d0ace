"""Chromium without a window, for tests that open a page in it. Without Chromium they are skipped."""

from __future__ import annotations

import base64
import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Chromium draws the camera's pictures itself.
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
# The first are for containers: root has no sandbox there, and /dev/shm is small.
OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--headless=new", "--hide-scrollbars")

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (char) => char.charCodeAt(0));
const transfer = new DataTransfer();
transfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
document.getElementById("stage").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
"""


@contextlib.contextmanager
def open_browser(*options: str) -> Iterator[Chrome]:
    """Yield Selenium's driver of a browser without a window, with more options on its command line."""
    pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
    program, driver = next(filter(None, map(shutil.which, PROGRAMS)), None), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    chosen = ChromeOptions()
    chosen.binary_location = program
    for option in (*OPTIONS, *options):
        chosen.add_argument(option)
    chosen.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(chosen, Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def set_screen(browser: Chrome, width: int, height: int = 900, *, dark: bool = False) -> None:
    """Show pages as a screen of this size in CSS pixels does, in light or in dark colors."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def find_overflow(browser: Chrome) -> int:
    """Return by how many CSS pixels the page is wider than the screen."""
    root = "document.documentElement"
    return int(browser.execute_script(f"return {root}.scrollWidth - {root}.clientWidth"))


def find_broken_images(browser: Chrome) -> list[str]:
    """Return the address of each image that could not be shown."""
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth)"
    # Images inside the page have their data as the address.
    address = "image.src.startsWith('data:') ? image.src.slice(0, 80) : image.src"
    return list(browser.execute_script(f"return {broken}.map(image => {address})"))


def read_console(browser: Chrome) -> list[dict[str, Any]]:
    """Return what the console shows since the last call: errors of scripts, files that were not found."""
    return list(browser.get_log("browser"))


def write_screenshot(browser: Chrome, path: Path) -> None:
    """Write the whole page, not only what fits on the screen, as PNG."""
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True})
    path.write_bytes(base64.b64decode(taken["data"]))


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)
    return found


def text_of(browser: Chrome, element: str) -> str:
    """Return the text of the element with this id."""
    return str(browser.execute_script("return document.getElementById(arguments[0]).innerText", element))


def click(browser: Chrome, element: str) -> None:
    """Click the element with this id."""
    browser.execute_script("document.getElementById(arguments[0]).click()", element)


def drop(browser: Chrome, path: Path) -> None:
    """Drop an image file on the page of `edgecls serve` or `edgecls web`."""
    browser.execute_script(DROP, base64.b64encode(path.read_bytes()).decode())


def has_color(browser: Chrome) -> bool:
    """Return whether the heat map of such a page has drawn something."""
    script = """const canvas = document.getElementById("overlay");
    return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0)"""
    return bool(browser.execute_script(script))
