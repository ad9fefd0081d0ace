from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_run import PER_CLASS, make_run

from edgecls.errors import DataError, ModelFileError
from edgecls.images.contact_sheet import CELL, HEADING, LARGE, LARGE_COLUMNS, LINE, ORANGE
from edgecls.report import pictures
from edgecls.report.pictures import draw_final, draw_preview, find_mistakes, picture_path, read_held_out
from edgecls.training.run import run_folder


def held_out_of(run: Path) -> pictures.HeldOut:
    return read_held_out(run, run_folder.read_record(run))


def test_every_picture_is_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert draw_final(run) == {}
    drawn = {path.name for path in (run / "plots").iterdir()}
    assert drawn == {f"{name}.png" for name in pictures.NAMES if name != "preview"}
    with Image.open(picture_path(run, "mistakes")) as sheet:
        assert sheet.width == LARGE_COLUMNS * LARGE and sheet.height > LARGE
        # The most confident one, of class 1 and so of gray 40, comes first; then the one of class 0, which is black.
        assert [sheet.getpixel((LARGE * column + 50, 50)) for column in range(2)] == [(40, 40, 40), (0, 0, 0)]


def test_mistakes_are_the_most_confident_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, wrong=[(0, 1, 0.6), (3, 2, 0.9), (8, 0, 0.7), (9, 0, 0.9)])
    assert find_mistakes(held_out_of(run)).tolist() == [3, 9, 8, 0]
    monkeypatch.setattr(pictures, "MOST_MISTAKES", 2)
    assert find_mistakes(held_out_of(run)).tolist() == [3, 9]


def test_held_out_images_stand_in_the_order_of_their_scores(tmp_path: Path) -> None:
    held_out = held_out_of(make_run(tmp_path))
    assert held_out.paths[PER_CLASS] == "1/0.png" and held_out.labels[PER_CLASS] == 1
    assert held_out.evaluation.confusion.tolist() == [[5, 1, 0], [1, 5, 0], [0, 0, 6]]


def test_what_cannot_be_drawn_has_a_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path, wrong=[])
    (run / "history.json").unlink()
    missing = draw_final(run)
    assert set(missing) == {"curves", "layers", "mistakes"}
    assert "older" in missing["curves"] and "All 18 images are classified correctly" in missing["mistakes"]
    assert picture_path(run, "confusion").is_file()


def test_images_that_are_gone_cost_one_picture(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    shutil.rmtree(tmp_path / "images")
    missing = draw_final(run)
    assert set(missing) == {"mistakes"} and str(tmp_path / "images") in missing["mistakes"]


def test_a_damaged_run_is_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (run / "history.json").write_text('[{"phase": "classifier"}]')
    with pytest.raises(ModelFileError, match=r"history\.json"):
        draw_final(run)
    with pytest.raises(ModelFileError, match="not a run folder"):
        draw_final(tmp_path)


def test_the_preview_has_a_row_for_each_image(tmp_path: Path) -> None:
    originals = np.stack([np.full((20, 24, 1), gray, np.uint8) for gray in (10, 90)])
    draw_preview(originals, [originals + 20, originals + 40], tmp_path / "plots" / "preview.png")
    with Image.open(tmp_path / "plots" / "preview.png") as sheet:
        assert sheet.size == (3 * CELL, 2 * CELL + HEADING)
        grays = [[sheet.getpixel((x * CELL + 50, y * CELL + HEADING + 50)) for x in range(3)] for y in range(2)]
    assert grays == [[(gray,) * 3 for gray in row] for row in ((10, 30, 50), (90, 110, 130))]
    with pytest.raises(DataError, match="no image"):
        draw_preview(originals[:0], [], tmp_path / "none.png")


def test_the_preview_names_its_settings_and_shows_the_border(tmp_path: Path) -> None:
    images = np.full((1, 100, 100, 1), 90, np.uint8)
    # A quarter of the side has come in from the left.
    edge = np.array([[[0.25, 0], [1.25, 0], [1.25, 1], [0.25, 1]]])
    draw_preview(images, [images], tmp_path / "preview.png", [edge], "--zoom 0.1; --seed 0")
    draw_preview(images, [images], tmp_path / "plain.png")
    with Image.open(tmp_path / "preview.png") as sheet, Image.open(tmp_path / "plain.png") as plain:
        # Two lines of text or more stand above.
        assert sheet.height >= plain.height + 2 * LINE
        drawn = np.asarray(sheet.convert("RGB")).astype(int)[-CELL // 2]
    (columns,) = np.nonzero(abs(drawn - ORANGE).max(-1) == 0)
    assert columns.tolist() == [pytest.approx(CELL + 4 + (CELL - 8) // 4, abs=1)]
