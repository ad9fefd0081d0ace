from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from report_run import epoch, layer, make_scores

from edgecls.errors import MissingDependency
from edgecls.evaluate import Evaluation, score
from edgecls.images import matplotlib_figure
from edgecls.report import layers_plot, plots
from edgecls.report.layers_plot import draw_layers
from edgecls.report.plots import draw_confusion, draw_curves, draw_recall, draw_scores, short_names


def evaluate(classes: list[str], wrong: list[tuple[int, int, float]]) -> Evaluation:
    scores = make_scores(len(classes), wrong)
    return score(scores, np.repeat(np.arange(len(classes)), len(scores) // len(classes)), classes)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def share_of(picture: np.ndarray, color: str) -> float:
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return float((abs(picture - rgb).max(-1) < 12).mean())


def dark_columns(picture: np.ndarray) -> list[int]:
    """Columns that are dark gray over a third of the height, right of the axis itself."""
    gray = (picture.max(-1) < 190) & (np.ptp(picture, axis=-1) < 10)
    first = picture.shape[1] // 5
    return [int(column) + first for column in np.flatnonzero(gray[:, first:].mean(0) > 0.33)]


def test_curves_hold_both_lines_and_the_border_of_phases(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "deep" / "two.png"
    history = [epoch(n) for n in range(1, 9)]
    draw_curves(history, one)
    draw_curves([*history[:5], *(dataclasses.replace(record, phase="fine-tuning") for record in history[5:])], two)
    assert share_of(pixels(one), plots.TRAIN) > 0.001
    assert share_of(pixels(one), plots.VAL) > 0.001
    assert not dark_columns(pixels(one))
    # Between epochs 5 and 6 of 8.
    (column, *beside) = dark_columns(pixels(two))
    assert len(beside) <= 2 and 0.6 < column / pixels(two).shape[1] < 0.75


def test_the_best_epoch_is_the_one_with_the_lowest_validation_loss(tmp_path: Path) -> None:
    history = [epoch(n) for n in range(1, 9)]
    last, third = tmp_path / "last.png", tmp_path / "third.png"
    draw_curves(history, last)
    history[2] = dataclasses.replace(history[2], val_loss=history[7].val_loss - 1e-6)
    draw_curves(history, third)
    # Only the ring can have moved to the left: the curve is as good as the same but in one point.
    left = np.s_[:, : pixels(last).shape[1] // 4]
    assert (pixels(last)[left] != pixels(third)[left]).any()


# What a float32 loss can be, and what it usually is.
numbers = st.floats(width=32) | st.floats(0, 10)


@settings(max_examples=8)
@given(st.lists(st.tuples(numbers, numbers, st.sampled_from(["classifier", "joint"])), min_size=1, max_size=6))
def test_curves_of_a_run_that_went_wrong_are_drawn_quietly(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[float, float, str]]
) -> None:
    history = [epoch(1, phase, train_loss=train, val_loss=val) for train, val, phase in values]
    path = tmp_path_factory.mktemp("curves") / "curves.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves(history, path)
    assert pixels(path).shape[1] > 500


def test_an_explosion_leaves_the_other_epochs_visible(tmp_path: Path) -> None:
    history = [epoch(n) for n in range(1, 20)]
    draw_curves([*history, epoch(20, train_loss=1e9, val_loss=math.inf)], tmp_path / "curves.png")
    picture = pixels(tmp_path / "curves.png")
    upper = picture[: picture.shape[0] * 2 // 5]
    rows = np.flatnonzero((abs(upper - [0xC2, 0x57, 0x1A]).max(-1) < 12).any(1))
    # On a linear axis all but the last step would lie within the thickness of the line.
    assert np.ptp(rows) > 100
    line = np.flatnonzero((abs(upper[:, : upper.shape[1] * 2 // 3] - [0xC2, 0x57, 0x1A]).max(-1) < 12).any(1))
    assert np.ptp(line) > 12


def test_curves_are_quick_enough_for_every_epoch(tmp_path: Path) -> None:
    history = [epoch(n) for n in range(1, 101)]
    draw_curves(history, tmp_path / "first.png")
    seconds = []
    for _ in range(3):
        began = time.process_time()
        draw_curves(history, tmp_path / "again.png")
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.5


def test_confusion_is_dark_where_the_images_are(tmp_path: Path) -> None:
    draw_confusion(evaluate(["a", "b"], [(0, 1, 0.8), (1, 1, 0.8), (2, 1, 0.8)]), tmp_path / "confusion.png")
    picture = pixels(tmp_path / "confusion.png").sum(-1)
    middle = picture.shape[1] // 2
    # In the colors of a row of cells: bottom right (6 of 6) is darker than top left (3 of 6), bottom left (0) is pale.
    right, left = picture[:, middle:], picture[:, :middle]
    half = picture.shape[0] // 2
    assert np.percentile(right[half // 2 * 2 :], 20) < np.percentile(left[:half], 20) - 100
    assert np.percentile(left[half:], 20) > 600


@pytest.mark.parametrize("count", [2, 60])
def test_confusion_and_recall_grow_with_the_classes(tmp_path: Path, count: int) -> None:
    names = [f"a kind of defect with the number {number} and more" for number in range(count)]
    result = evaluate(names, [(number, (number + 1) % count, 0.8) for number in range(count)])
    draw_confusion(result, tmp_path / "confusion.png")
    draw_recall(result, tmp_path / "recall.png")
    # A label needs 0.2 inches.
    assert pixels(tmp_path / "confusion.png").shape[0] > count * 0.2 * plots.DPI
    assert pixels(tmp_path / "recall.png").shape[0] > count * 0.2 * plots.DPI
    assert pixels(tmp_path / "recall.png").shape[1] < 8.5 * plots.DPI


def test_names_that_look_like_formulas_or_lack_letters_do_no_harm(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(["$a", "b$c$d", "長い名前", "<b>", "a\nb"], [(0, 1, 0.8)])
        draw_confusion(result, tmp_path / "confusion.png")
        draw_recall(result, tmp_path / "recall.png")


def test_a_class_without_images_has_no_recall(tmp_path: Path) -> None:
    scores = make_scores(3)
    result = score(scores, np.zeros(len(scores), np.int64), ["a", "b", "c"])
    draw_recall(result, tmp_path / "recall.png")
    assert share_of(pixels(tmp_path / "recall.png"), plots.BAR) > 0.01


def test_recall_bars_are_as_long_as_the_recall(tmp_path: Path) -> None:
    draw_recall(evaluate(["a", "b"], [(0, 1, 0.8), (1, 1, 0.8), (2, 1, 0.8)]), tmp_path / "recall.png")
    bar = abs(pixels(tmp_path / "recall.png") - [0x5F, 0x93, 0xC9]).max(-1) < 12
    lengths = [int(np.ptp(np.flatnonzero(row))) for row in bar if row.any()]
    # The weakest on top, at half the length of the other.
    assert lengths[0] == pytest.approx(lengths[-1] / 2, rel=0.03)


def test_layers_show_a_vanishing_gradient(tmp_path: Path) -> None:
    level_layers = [layer(f"dense_{i}", 1e-3) for i in range(6)]
    vanishing = [layer(f"dense_{i}", 10.0 ** (i - 8)) for i in range(6)]
    draw_layers([epoch(n, layers=level_layers) for n in (1, 2)], tmp_path / "level.png")
    draw_layers([epoch(n, layers=vanishing) for n in (1, 2)], tmp_path / "vanishing.png")
    dark, level = pixels(tmp_path / "vanishing.png"), pixels(tmp_path / "level.png")
    column = dark.shape[1] // 2
    assert len(np.unique(dark[: dark.shape[0] // 2, column], axis=0)) > len(
        np.unique(level[: level.shape[0] // 2, column], axis=0)
    )


def test_layers_of_all_phases_stand_from_the_image_to_the_scores() -> None:
    history = [
        epoch(1, "classifier", [layer("dense", 1e-3), layer("scores", 1e-3)]),
        epoch(1, "joint", [layer("gray_to_rgb", 1e-4), layer("dense", 1e-3), layer("scores", 1e-3)]),
        epoch(1, "fine-tuning", [layer(name, 1e-4, 0.5) for name in ("block_15", "block_16", "dense", "scores")]),
    ]
    names = layers_plot._layer_names(history)
    assert names == ["gray_to_rgb", "block_15", "block_16", "dense", "scores"]
    table = layers_plot._layer_map(history, names, "dead_share")
    assert np.isnan(table[:, 0]).all() and table[1, 2] == 0.5 and np.isnan(table[0, 2])


def test_layers_that_stand_still_or_burst_are_drawn(tmp_path: Path) -> None:
    layers = [layer("a", 0.0, 0.2), layer("b", math.nan), layer("c", math.inf), layer("d", 1e-3)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_layers([epoch(1, layers=layers), epoch(2)], tmp_path / "layers.png")
    draw_layers([epoch(1, layers=[layer("a", 0.0)])], tmp_path / "still.png")
    # Three maps, of which the second run needs but two.
    assert pixels(tmp_path / "layers.png").shape[0] > pixels(tmp_path / "still.png").shape[0]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=30, unique=True))
def test_short_names_are_short_and_differ(names: list[str]) -> None:
    short = short_names(names)
    assert len(set(short)) == len(names)
    assert max(map(len, short)) <= plots.LONGEST_NAME + 6
    if max(map(len, names)) <= plots.LONGEST_NAME:
        assert short == names


def test_a_failed_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    draw_curves([epoch(1)], path)
    before = path.read_bytes()

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        draw_curves([epoch(1), epoch(2)], path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["curves.png"]


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib_figure, "find_spec", lambda _: None)
    with pytest.raises(MissingDependency, match=r"pip install 'edgecls\[train\]'"):
        draw_curves([epoch(1)], tmp_path / "curves.png")


def test_importing_the_report_imports_nothing_heavy() -> None:
    code = "import sys, edgecls.report.page, edgecls.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert not {"matplotlib", "jinja2", "rich", "tensorflow", "keras"} & set(done.stdout.split())


def test_histograms_show_a_single_image_beside_hundreds(tmp_path: Path) -> None:
    counts = {"free": [0, 0, 0, 900], "defects": [40, 0, 0, 1]}
    draw_scores(counts, tmp_path / "scores.png", "score of free", 0.8, "from 0.8 on called free")
    draw_scores(
        counts | {"defects": [40, 0, 0, 0]}, tmp_path / "none.png", "score of free", 0.8, "from 0.8 on called free"
    )
    bars = [share_of(pixels(tmp_path / name), plots.TRAIN) for name in ("scores.png", "none.png")]
    assert bars[0] > 1.02 * bars[1] > 0
    draw_scores({"correct": [0, 0], "incorrect": [0, 0]}, tmp_path / "empty.svg", "score")
    assert "0 images" in (tmp_path / "empty.svg").read_text(encoding="utf-8")
