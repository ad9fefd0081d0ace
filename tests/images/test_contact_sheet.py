from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgecls.errors import DataError
from edgecls.images.contact_sheet import CAPTION, CELL, PAPER, contact_sheet


def black_images(count: int) -> np.ndarray:
    return np.zeros((count, 20, 24, 1), np.uint8)


def inks_of(sheet: Image.Image, position: int, columns: int = 8) -> set[str]:
    """The colors of the caption below the image at `position`; letters are smoothed, so hue decides."""
    left, top = position % columns * CELL, position // columns * (CELL + CAPTION)
    caption = np.asarray(sheet)[top + CELL - 4 : top + CELL + CAPTION, left : left + CELL].astype(int)
    red, green, blue = np.moveaxis(caption, -1, 0)
    inks = {
        "green": green - red > 60,
        "red": red - green > 90,
        "ink": (red < 120) & (abs(red - green) < 5) & (abs(red - blue) < 5),
    }
    return {name for name, where in inks.items() if where.any()}


def test_right_is_green_and_wrong_is_red_with_the_truth_below() -> None:
    sheet = contact_sheet(black_images(2), ["boot", "boot"], ["boot", "bag"], [0.9, 0.4])
    assert inks_of(sheet, 0) == {"green"}
    assert inks_of(sheet, 1) == {"red", "ink"}


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 9))
def test_every_image_has_its_cell(count: int, columns: int) -> None:
    sheet = contact_sheet(black_images(count), ["a"] * count, ["a"] * count, [1.0] * count, columns)
    assert sheet.size == (columns * CELL, -(-count // columns) * (CELL + CAPTION))
    pixels = np.asarray(sheet)
    for position in range(count):
        left, top = position % columns * CELL, position // columns * (CELL + CAPTION)
        assert not pixels[top + 4 : top + CELL - 4, left + 4 : left + CELL - 4].any()
        assert inks_of(sheet, position, columns) == {"green"}
    assert (pixels[-CAPTION - CELL :, (count - 1) % columns * CELL + CELL :] == PAPER).all()


def test_the_picture_is_the_image_and_can_be_saved() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    buffer = io.BytesIO()
    contact_sheet(image, ["a"], ["a"], [1.0], columns=1).save(buffer, "PNG")
    cell = np.asarray(Image.open(buffer).convert("L"))[4 : CELL - 4, 4 : CELL - 4].astype(int)
    assert (cell[0, 0], cell[-1, -1]) == (0, 255)
    assert (np.diff(cell[:, 50]) >= 0).all()


@pytest.mark.parametrize(
    "label", ["W" * 40, "Knöchelstiefel, gefüttert", "長い名前のラベル" * 4, "i" * 12, "WWWWWWWWWWWW"]
)
def test_long_labels_stay_in_their_cell(label: str) -> None:
    sheet = contact_sheet(black_images(1), [label], ["truth " + label], [1.0], columns=3)
    pixels = np.asarray(sheet)
    assert (pixels[:, CELL:] == PAPER).all()
    assert inks_of(sheet, 0, 3) == {"red", "ink"}


def test_no_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no image"):
        contact_sheet(black_images(0), [], [], [])
