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
