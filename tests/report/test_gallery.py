from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from edgecls.report.gallery import SIDE, ScoredImage, Shown, show


def one(folder: Path, path: str) -> Shown:
    (shown,) = show(folder, [ScoredImage(path, "nut", "bolt", 0.9)], None)
    return shown


def picture_of(shown: Shown) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(shown.data)))


def test_a_picture_keeps_its_shape_and_is_no_larger_than_a_page_needs(tmp_path: Path) -> None:
    gradient = np.tile(np.linspace(0, 255, 1000).astype(np.uint8), (500, 1))
    Image.fromarray(gradient).save(tmp_path / "a.png")
    shown = one(tmp_path, "a.png")
    assert (shown.width, shown.height, shown.note) == (SIDE, SIDE // 2, "") and not shown.is_correct
    assert picture_of(shown).size == (SIDE, SIDE // 2)


def test_an_almost_black_picture_is_shown_with_more_contrast_and_says_so(tmp_path: Path) -> None:
    dark = np.random.default_rng(0).integers(3, 15, (60, 40), np.uint8)
    Image.fromarray(dark).save(tmp_path / "a.png")
    shown = one(tmp_path, "a.png")
    assert shown.note.endswith("times the contrast") and np.ptp(np.asarray(picture_of(shown))) > 200


def test_an_image_that_is_gone_or_damaged_has_a_reason_instead(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("a.png", "gone.png"):
        shown = one(tmp_path, name)
        assert shown.data == "" and shown.note.startswith("The image can no longer be read: ")
