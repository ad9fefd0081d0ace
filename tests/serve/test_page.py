"""The page, in a real browser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import (
    FAKE_CAMERA,
    click,
    drop,
    find_overflow,
    has_color,
    open_browser,
    read_console,
    set_screen,
    text_of,
    wait_for,
    write_screenshot,
)
from PIL import Image
from server import start_server
from tiny import HEIGHT, LABELS, WIDTH

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytest.importorskip("starlette", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with open_browser(*FAKE_CAMERA) as browser:
        yield browser


def press(browser: Chrome, key: str) -> None:
    browser.execute_script("dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0], bubbles: true}))", key)


def write_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
        Image.fromarray(np.kron(pixels, np.ones((20, 20), np.uint8))).save(path)
    return paths


def test_see_collect_and_label(browser: Chrome, tiny_heatmap: Path, tmp_path: Path) -> None:
    images, collection = write_images(tmp_path / "images", 8), tmp_path / "collection"
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    token = "a-long-enough-token"
    arguments = ("--watch", inbox, "--collect", collection, "--token", token, "--threshold", "0.999")
    with start_server(tiny_heatmap, *arguments) as server:
        browser.get(f"{server.url}#token={token}")
        wait_for(lambda: "Self-test" in text_of(browser, "selftest"), "the state of the self-test")
        assert token not in browser.current_url

        # An image that is dropped
        drop(browser, images[0])
        wait_for(lambda: "%" in text_of(browser, "label"), "a label")
        assert any(label in text_of(browser, "label") for label in LABELS)
        assert browser.execute_script("return document.querySelectorAll('#bars li').length") == len(LABELS)
        assert browser.execute_script("return document.getElementById('image').naturalWidth") == WIDTH * 20
        nearly_black = tmp_path / "dark.png"
        Image.fromarray(np.full((30, 40), 3000, np.uint16)).save(nearly_black)
        drop(browser, nearly_black)
        wait_for(lambda: "read as nearly black" in text_of(browser, "message"), "the warning")
        drop(browser, images[0])
        wait_for(lambda: not text_of(browser, "message"), "the next answer, without one")
        wait_for(lambda: has_color(browser), "the heat map")
        click(browser, "heatmap")
        assert not browser.execute_script("return document.getElementById('overlay').offsetWidth")
        click(browser, "heatmap")
        for width, dark, name in ((1280, False, "light"), (1280, True, "dark"), (400, False, "phone")):
            set_screen(browser, width, dark=dark)
            assert find_overflow(browser) == 0
            write_screenshot(browser, tmp_path / f"see-{name}.png")
        set_screen(browser, 1280)

        # The live view of the board
        click(browser, "source-board")
        for path in images[1:4]:
            time.sleep(0.3)
            (inbox / path.name).write_bytes(path.read_bytes())
        wait_for(lambda: text_of(browser, "rate") not in ("–", "0.0"), "a rate of live frames")

        # The camera of this device, which Chromium draws itself
        click(browser, "source-camera")
        wait_for(lambda: browser.execute_script("return state.times.length") > 3, "frames of the camera")
        click(browser, "source-camera")

        # Three uncertain images get a label, one is of no class, one is deleted
        wait_for(lambda: server.ask_json("/api/collected")["unlabeled"] >= 5, "five collected images")
        click(browser, "tab-label")
        wait_for(lambda: loaded_images(browser) >= 5, "the grid")
        for width, name in ((1280, "collected"), (400, "collected-phone")):
            set_screen(browser, width)
            assert find_overflow(browser) == 0
            write_screenshot(browser, tmp_path / f"{name}.png")
        before = server.ask_json("/api/collected")["unlabeled"]
        for done, key in enumerate(("1", "2", "3", "0", "Delete"), 1):
            press(browser, key)
            wait_for(lambda: server.ask_json("/api/collected")["unlabeled"] == before - done, key)  # noqa: B023
            wait_for(lambda: loaded_images(browser) == before - done, "the grid")  # noqa: B023
        assert [len(list((collection / "labeled" / label).iterdir())) for label in LABELS] == [1, 1, 1]
        assert len(list((collection / "no-class").iterdir())) == 1
        messages = [entry["message"] for entry in read_console(browser)]
        assert messages == []


def loaded_images(browser: Chrome) -> int:
    script = "return [...document.querySelectorAll('#grid img')].filter((image) => image.naturalWidth).length"
    return int(browser.execute_script(script))


def test_without_the_token_the_page_says_what_to_do(browser: Chrome, tiny_tflite: Path) -> None:
    with start_server(tiny_tflite, "--token", "a-long-enough-token") as server:
        browser.get(server.url)
        browser.execute_script("sessionStorage.clear()")
        browser.refresh()
        wait_for(lambda: "token" in text_of(browser, "message"), "a message about the token")
        assert text_of(browser, "selftest") == "Not connected"
        # The browser itself reports each 401.
        assert all("401" in entry["message"] for entry in read_console(browser))
