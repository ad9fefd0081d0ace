"""Commands other than train that read images as train's options say: evaluate, compare, sweep."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run
from PIL import Image
from tiny import LABELS

from edgecls.config import TrainConfig
from edgecls.report.settings import data_arguments


@pytest.fixture
def flat(labeled_by_onnx: Path, tmp_path: Path) -> Path:
    """All images in one folder, their classes in labels.csv and in their names, a third of them in the test split."""
    folder = tmp_path / "flat"
    folder.mkdir()
    rows = []
    for number, path in enumerate(sorted(labeled_by_onnx.glob("*/*.png"))):
        name = f"{path.parent.name}.{path.name}"
        shutil.copy(path, folder / name)
        rows.append((name, path.parent.name, "test" if number % 3 == 0 else "train"))
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file", "label", "split"), *rows])
    (tmp_path / "leave-out.csv").write_text(f"image\n{rows[0][0]}\n", encoding="utf-8")
    return folder


def evaluate(file: Path, *arguments: object) -> tuple[dict[str, Any], str]:
    done = run("evaluate", file, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def test_evaluate_reads_a_table_and_scores_its_test_split(tiny_onnx: Path, flat: Path) -> None:
    table = flat.parent / "labels.csv"
    found, said = evaluate(tiny_onnx, flat, "--labels", table)
    assert (found["images"], found["accuracy"], found["splits"]) == (30, 1, {str(flat): "test"})
    assert "60 train, 30 test images" in said and f"{flat}: its 30 test images are scored." in said
    found, said = evaluate(tiny_onnx, flat, "--labels", table, "--exclude", flat.parent / "leave-out.csv")
    assert found["images"] == 29 and "named by leave-out.csv" in said
    found, said = evaluate(tiny_onnx, flat, "--labels", table, "--splits", "none")
    assert (found["images"], found["accuracy"], found["splits"]) == (90, 1, {str(flat): "all"})
    assert "scored" not in said


def test_evaluate_says_which_images_it_scored(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    for name, parts in (("one", ("train", "val")), ("two", ("Training", "Testing"))):
        for part in parts:
            shutil.copytree(labeled_by_onnx, tmp_path / name / part)
    one, two = tmp_path / "one", tmp_path / "two"
    found, said = evaluate(tiny_onnx, one)
    assert found["splits"] == {str(one): "val"}
    assert f"{one}: its 90 validation images are scored, as it has no test." in said
    found, said = evaluate(tiny_onnx, one, two, labeled_by_onnx)
    assert found["splits"] == {str(one): "val", str(two): "test", str(labeled_by_onnx): "all"}
    assert f"{two}: its 90 test images are scored." in said and found["images"] == 270
    done = run("compare", tiny_onnx, tiny_onnx, two)
    assert f"{two}: its 90 test images are scored." in done.stderr


def test_evaluate_reads_classes_in_names_and_folders_of_splits(
    tiny_onnx: Path, labeled_by_onnx: Path, flat: Path, tmp_path: Path
) -> None:
    found, _ = evaluate(tiny_onnx, flat, "--class-from", r"^([^.]+)\.")
    assert (found["images"], found["accuracy"]) == (90, 1)
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        shutil.copytree(labeled_by_onnx, tmp_path / "data" / name)
    (tmp_path / "data/b/bolt/more.png").write_bytes(next((labeled_by_onnx / "bolt").iterdir()).read_bytes())
    found, _ = evaluate(tiny_onnx, tmp_path / "data", "--splits", "train=a,test=b")
    assert found["images"] == 91
    done = run("evaluate", tiny_onnx, tmp_path / "data", "--splits", "train=a")
    assert done.exit_code == 1 and "no test and no validation images to score on" in done.stderr


def test_evaluate_refuses_classes_that_the_file_does_not_know(tiny_onnx: Path, flat: Path) -> None:
    done = run("evaluate", tiny_onnx, flat, "--class-from", r"(\d)")
    assert done.exit_code == 1 and "are not the classes of the model: without images bolt" in done.stderr
    done = run("evaluate", tiny_onnx, flat, "--labels", flat.parent / "labels.csv", "--class-from", "(.)")
    assert done.exit_code == 2 and "--labels and --class-from both say the class" in done.stderr


def test_compare_reads_them_too(tiny_onnx: Path, tiny_tflite: Path, flat: Path) -> None:
    done = run("compare", tiny_onnx, tiny_tflite, flat, "--labels", flat.parent / "labels.csv", "--json")
    assert json.loads(done.stdout)["images"] == 30 and "The classes are" in done.stderr


def test_sweep_writes_nothing_into_its_images(tmp_path: Path) -> None:
    result = run("sweep", str(tmp_path), "--out", str(tmp_path / "sweep"))
    assert result.exit_code == 2 and "whose images are read; choose a folder outside it" in result.stderr


def test_sweep_passes_them_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Seen(Exception):
        pass

    def search(data: Path, out: Path, base: TrainConfig, *_: object, **__: object) -> None:
        raise Seen(base)

    monkeypatch.setattr("edgecls.sweep.search.search", search)
    options = ["--labels", "a.csv,b.csv", "--group", "x", "--exclude", "c.csv", "--resize", "pad", "--roi", "1,2,3,4"]
    with pytest.raises(Seen) as seen:
        run("sweep", tmp_path, *options)
    base: TrainConfig = seen.value.args[0]
    assert (base.labels, base.group, base.exclude) == (("a.csv", "b.csv"), "x", "c.csv")
    assert (base.resize, base.roi, base.splits) == ("pad", (1, 2, 3, 4), "")
    assert sorted(data_arguments(base)) == sorted(options)


def test_images_that_are_read_as_nearly_black_are_said(tiny_onnx: Path, tiny_tflite: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for number, name in enumerate(LABELS):
        (photos / name).mkdir(parents=True)
        for count, largest in enumerate((3000, 60000)):
            frame = np.full((30, 40), largest + number, np.uint16)
            Image.fromarray(frame).save(photos / name / f"{count}.png")
    said = f"Warning: {len(LABELS)} 16-bit images have no value above 4095 of 65535, so they were read as nearly black"
    for arguments in (("evaluate", tiny_onnx), ("evaluate", tiny_onnx, "--json"), ("compare", tiny_onnx, tiny_tflite)):
        # Python shows a warning once in a process.
        with warnings.catch_warnings():
            done = run(*arguments, photos)
        assert done.stderr.count(said) == 1 and "nearly black" not in done.stdout, done.output
    with warnings.catch_warnings():
        done = run("predict", tiny_onnx, photos, "--out", tmp_path / "answers")
    assert "a 16-bit image has no value above 4095" in done.stderr


def test_several_folders_are_scored_together(tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    shutil.copytree(labeled_by_onnx, one)
    for image in sorted((one / LABELS[1]).iterdir()):
        (other / LABELS[0]).mkdir(parents=True, exist_ok=True)
        image.rename(other / LABELS[0] / image.name)
    moved = len(list((other / LABELS[0]).iterdir()))
    done = run("evaluate", tiny_onnx, one, other, "--json", "--mistakes", tmp_path / "mistakes.csv")
    found = json.loads(done.stdout)
    assert (found["images"], found["accuracy"]) == (90, pytest.approx(1 - moved / 90))
    rows = (tmp_path / "mistakes.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == moved and all(str(other) in row for row in rows)
    done = run("evaluate", tiny_onnx, tmp_path, one)
    assert done.exit_code == 1 and "would count twice" in done.stderr
