from __future__ import annotations

import contextlib
import csv
import json
import sqlite3
from pathlib import Path

import pytest
from command_line import run
from PIL import Image
from server import png
from tiny import HEIGHT, LABELS, WIDTH

from edgecls.images.decode import decode_gray
from edgecls.images.heatmap import color_in
from edgecls.runtime.classifier import load


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        path.write_bytes(png(seed))
    return paths


def test_heatmap_draws_each_image_in_its_own_size(tiny_heatmap: Path, images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    done = run("predict", tiny_heatmap, *images, "--heatmap", folder, "--json")
    entries = json.loads(done.stdout)
    assert [entry["image"] for entry in entries] == [str(path) for path in images]
    assert len({entry["heatmap"] for entry in entries}) == len(list(folder.iterdir())) == 3
    with load(tiny_heatmap) as classifier:
        for entry, path in zip(entries, images, strict=True):
            heatmap = classifier.predict(path).heatmap
            assert heatmap is not None
            drawn = Image.open(entry["heatmap"]).crop((0, 0, WIDTH * 2, HEIGHT * 3))
            assert drawn.tobytes() == color_in(decode_gray(path), heatmap).tobytes()


def test_roi_cuts_each_image_and_its_heat_map(tiny_heatmap: Path, images: list[Path], tmp_path: Path) -> None:
    roi = (3, 2, 12, 20)
    cut = tmp_path / "cut"
    cut.mkdir()
    for path in images:
        decode_gray(path).crop((3, 2, 15, 22)).save(cut / path.name)
    whole, by_hand = (
        json.loads(run("predict", tiny_heatmap, *paths, "--json", "--heatmap", tmp_path / name, *options).stdout)
        for paths, name, options in ((images, "a", ["--roi", "3,2,12,20"]), (sorted(cut.iterdir()), "b", []))
    )
    assert [entry["scores"] for entry in whole] == [entry["scores"] for entry in by_hand]
    for one, other in zip(whole, by_hand, strict=True):
        assert Path(one["heatmap"]).read_bytes() == Path(other["heatmap"]).read_bytes()
    with load(tiny_heatmap, roi=roi) as classifier:
        assert classifier.spec.roi == roi
    out = tmp_path / "out"
    done = run("predict", tiny_heatmap, *images, "--roi", "3,2,12,20", "--out", out)
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line) for path in sorted(out.glob("*.jsonl")) for line in path.read_text().splitlines()]
    assert [line["scores"] for line in lines] == [entry["scores"] for entry in by_hand]
    done = run("predict", tiny_heatmap, *images, "--roi", "3,2,12,19", "--out", out)
    assert done.exit_code == 2 and "roi" in done.stderr
    done = run("predict", tiny_heatmap, images[0], "--roi", "0,0,999,5")
    assert done.exit_code == 1 and "the ROI 0,0,999,5 (left, top, width, height) reaches beyond it" in done.stderr
    for text in ("1,2,3", "0,0,0,5", "a,b,c,d"):
        assert run("predict", tiny_heatmap, images[0], "--roi", text).exit_code in (1, 2)


def test_heatmap_of_a_folder(tiny_heatmap: Path, images: list[Path], tmp_path: Path) -> None:
    done = run("predict", tiny_heatmap, images[0].parent, "--heatmap", tmp_path / "pictures", "--format", "csv")
    assert done.exit_code == 0 and len(list(csv.reader(done.stdout.splitlines()))) == 4


def test_heatmap_is_refused_where_it_cannot_be_drawn(
    tiny_heatmap: Path, tiny_tflite: Path, images: list[Path], tmp_path: Path
) -> None:
    done = run("predict", tiny_tflite, images[0], "--heatmap", tmp_path / "pictures")
    assert done.exit_code == 1 and "has no heat map; export it again with: edgecls export RUN --heatmap" in done.stderr
    done = run("predict", tiny_heatmap, images[0].parent, "--heatmap", images[0].parent / "inside")
    assert done.exit_code == 2 and "lies in" in done.stderr
    done = run("predict", tiny_heatmap, images[0], "--heatmap", tmp_path, "--out", tmp_path / "out")
    assert done.exit_code == 2 and "--out excludes" in done.stderr
    done = run("predict", tiny_heatmap, images[0], "--heatmap", tmp_path, "--host", "board")
    assert done.exit_code == 2 and "--heatmap uses a local folder" in done.stderr


def test_collect_keeps_uncertain_images(tiny_tflite: Path, images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "collection"
    done = run("predict", tiny_tflite, *images, "--collect", folder, "--threshold", "1", "--json")
    entries = json.loads(done.stdout)
    assert [entry["label"] for entry in entries] == [None] * 3
    for entry, path in zip(entries, images, strict=True):
        assert (folder / "collected" / f"{entry['collected']}.png").read_bytes() == path.read_bytes()
        record = json.loads((folder / "records" / f"{entry['collected']}.json").read_text(encoding="utf-8"))
        assert record["image"] == str(path) and set(record["scores"]) == set(LABELS)
    done = run("predict", tiny_tflite, images[0], "--collect", folder, "--threshold", "1", "--json")
    assert "collected" not in json.loads(done.stdout)[0]
    done = run("predict", tiny_tflite, images[0], "--collect", tmp_path / "small", "--collect-limit", "10B")
    assert done.exit_code == 0
    done = run("predict", tiny_tflite, images[0], "--collect", folder, "--collect-limit", "0MB")
    assert done.exit_code == 2 and "'0MB' is less than a byte" in done.stderr


def test_a_full_collection_warns_once(tiny_tflite: Path, images: list[Path], tmp_path: Path) -> None:
    arguments = ("--collect", tmp_path / "small", "--collect-limit", "10B", "--threshold", "1")
    done = run("predict", tiny_tflite, *images, *arguments)
    assert done.exit_code == 0 and done.stderr.count("has reached its limit of 10 bytes") == 1


def test_smooth_reports_the_label_that_enough_images_agree_on(
    tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path
) -> None:
    first, second = (sorted((labeled_by_onnx / label).iterdir()) for label in LABELS[:2])
    images = [first[0], first[1], second[0], first[2], second[1], second[2]]
    entries = json.loads(run("predict", tiny_onnx, *images, "--smooth", "2/3", "--json").stdout)
    assert [entry["label"] for entry in entries] == [path.parent.name for path in images]
    bolt, nut = LABELS[:2]
    assert [entry["smoothed"] for entry in entries] == [None, bolt, bolt, bolt, nut, nut]
    lines = run("predict", tiny_onnx, *images[:2], "--smooth", "2/3").stdout.splitlines()
    assert lines[0].endswith(", smoothed none") and lines[1].endswith(f", smoothed {bolt}")
    rows = list(
        csv.DictReader(run("predict", tiny_onnx, *images, "--smooth", "2/3", "--format", "csv").stdout.splitlines())
    )
    assert [row["smoothed"] for row in rows] == ["", bolt, bolt, bolt, nut, nut]
    for wrong in ("5", "1/2", "4/3", "a/b", "0/0"):
        done = run("predict", tiny_onnx, images[0], "--smooth", wrong)
        assert done.exit_code == 2 and "--smooth is N/M" in done.stderr


def test_sqlite_gets_a_row_for_each_prediction(tiny_onnx: Path, images: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "predictions.db"
    for _ in range(2):
        entries = json.loads(run("predict", tiny_onnx, *images, "--sqlite", path, "--json").stdout)
    with contextlib.closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT image, label, score, scores, time FROM predictions").fetchall()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert len(rows) == 6
    for row, entry in zip(rows[3:], entries, strict=True):
        assert row[:3] == (entry["image"], entry["label"], entry["score"]) and json.loads(row[3]) == entry["scores"]
        assert row[4].endswith("+00:00")
    done = run("predict", tiny_onnx, images[0], "--sqlite", images[0])
    assert done.exit_code == 1 and "cannot write predictions into" in done.stderr
    assert images[0].read_bytes() == png(0)
