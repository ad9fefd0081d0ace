"""The report in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import find_broken_images, find_overflow, open_browser, read_console, set_screen
from report_run import make_run

from edgecls.report.page import write_report

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with open_browser() as opened:
        yield opened


def test_what_the_driver_reports_is_so(browser: Chrome, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text("<body><div style='width:700px'>wide</div><img src=gone.png><script>missing()</script>")
    set_screen(browser, 400)
    browser.get(page.as_uri())
    assert find_overflow(browser) == 8 + 700 - 400
    assert [address.endswith("gone.png") for address in find_broken_images(browser)] == [True]
    assert any("missing is not defined" in entry["message"] for entry in read_console(browser))


@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_and_shows_all_its_images(browser: Chrome, tmp_path: Path, width: int) -> None:
    page = write_report(make_run(tmp_path, classes=("bolt", "nut", "a class with a long name")))
    set_screen(browser, width)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.images.length") == 2
    assert (find_overflow(browser), find_broken_images(browser), read_console(browser)) == (0, [], [])


def test_a_mistake_is_enlarged_by_the_keyboard_alone(browser: Chrome, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    page = write_report(make_run(tmp_path))
    set_screen(browser, 1280)
    browser.get(page.as_uri())
    summary = browser.find_element("css selector", ".gallery summary")
    image = browser.find_element("css selector", ".gallery img")
    small = image.size["width"]
    # As a keyboard reaches it.
    browser.execute_script("arguments[0].focus()", summary)
    assert browser.switch_to.active_element == summary
    summary.send_keys(Keys.ENTER)
    assert image.size["width"] > 2 * small
    assert find_overflow(browser) == 0
    summary.send_keys(Keys.ENTER)
    assert image.size["width"] == small


def test_plots_have_the_colors_of_the_page(browser: Chrome, tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path))
    found = {}
    for dark in (False, True):
        set_screen(browser, 1280, dark=dark)
        browser.get(page.as_uri())
        script = "return getComputedStyle(document.querySelector('svg text')).fill"
        found[dark] = browser.execute_script(script)
    assert found == {False: "rgb(29, 35, 40)", True: "rgb(230, 233, 236)"}


def test_a_dark_screen_prints_on_white_paper(browser: Chrome, tmp_path: Path) -> None:
    page = write_report(make_run(tmp_path))
    set_screen(browser, 720, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [dark]})
    browser.get(page.as_uri())
    script = "return getComputedStyle(document.body).backgroundColor"
    assert browser.execute_script(script) == "rgb(255, 255, 255)"
    assert find_overflow(browser) == 0
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
