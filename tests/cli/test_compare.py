from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from model_copies import with_labels
from PIL import Image
from tiny import LABELS

from edgecls.files import write_checked
from edgecls.training.run.run_folder import read_record


@pytest.fixture
def exchanged(tiny_onnx: Path, tmp_path: Path) -> Path:
    """A file that takes each of two classes for the other."""
    return with_labels(tiny_onnx, tmp_path / "<exchanged>.onnx", (LABELS[1], LABELS[0], LABELS[2]))


def test_a_worse_file_exits_with_1_and_shows_the_images(
    exchanged: Path, tiny_tflite: Path, labeled_by_onnx: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    done = run("compare", exchanged, tiny_tflite, labeled_by_onnx, "--html", page)
    assert done.exit_code == 1, done.stderr
    found = re.search(r"^worse: (\d+) images fixed, (\d+) broken, p = ", done.stdout, re.MULTILINE)
    assert found and int(found[2]) > 6
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == int(found[1]) + int(found[2])
    assert "The new file is worse than the old one" in text and "&lt;exchanged&gt;" in text and "<exch" not in text


def test_json(tiny_onnx: Path, exchanged: Path, labeled_by_onnx: Path) -> None:
    done = run("compare", tiny_onnx, exchanged, labeled_by_onnx, "--json")
    result = json.loads(done.stdout)
    assert (done.exit_code, result["verdict"], result["images"]) == (0, "better", 90)
    assert result["accuracy"]["new"] == 1 and result["p_value"] < 0.05
    flips = result["flips"]
    assert flips == {"fixed": round(90 * (1 - result["accuracy"]["old"])), "broken": 0}
    assert len(result["flipped_images"]) == flips["fixed"]
    assert result["per_class"][LABELS[0]]["recall"] == {"new": 1, "old": 0}


def test_equal_files_are_not_worse_and_the_limits_are_named(
    tiny_onnx: Path, labeled_by_onnx: Path, tmp_path: Path
) -> None:
    done = run("compare", tiny_onnx, tiny_onnx, labeled_by_onnx)
    assert done.exit_code == 0 and "not worse: 0 images fixed, 0 broken, p = 1" in done.stdout
    assert "the verdict is worse from 6 broken images on, a loss of 6.7 points" in done.stdout
    few = tmp_path / "few" / LABELS[0]
    few.mkdir(parents=True)
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(few / "a.png")
    done = run("compare", tiny_onnx, tiny_onnx, few.parent)
    assert "1 image is too few to find a loss" in done.stdout
    assert f"DATA has no image of {LABELS[1]}, {LABELS[2]}" in done.stderr


def test_wrong_arguments(tiny_onnx: Path, labeled_by_onnx: Path) -> None:
    done = run("compare", tiny_onnx, tiny_onnx, labeled_by_onnx, labeled_by_onnx)
    assert done.exit_code == 1 and "it would count twice" in done.stderr
    assert run("compare", tiny_onnx, labeled_by_onnx).exit_code == 2
    assert run("compare", labeled_by_onnx, tiny_onnx, labeled_by_onnx).exit_code == 1


def test_a_run_folder_stands_for_its_held_out_images(tiny_run: Path, file_named: Callable[[str], Path]) -> None:
    new, old = file_named("model-int8.tflite"), file_named("model-int8.onnx")
    done = run("compare", new, old, tiny_run, "--json")
    held_out = json.loads((tiny_run / "run.json").read_text())["split"]["test"]
    assert json.loads(done.stdout)["images"] == sum(map(len, held_out.values()))
    assert f"its {sum(map(len, held_out.values()))} test images in" in done.stderr
    done = run("compare", new, old, tiny_run, "--splits", "none")
    assert done.exit_code == 2 and "leave out --splits" in done.stderr


def test_that_a_file_is_scored_on_images_that_it_learned_from_is_told(
    run_copy: Path, int8: Path, tiny_data: Path, tmp_path: Path
) -> None:
    file, record = run_copy / "export" / int8.name, read_record(run_copy)
    file.parent.mkdir()
    shutil.copy(int8, file)
    learned = sum(map(len, record["split"]["train"].values()))
    told = f"Warning: {file} learned from {learned} of these 42 images, so its accuracy is overstated; on the images "
    for command in (["evaluate", file], ["compare", int8, file]):
        assert run(*command, tiny_data).stderr.count(told) == 1
    assert "learned from" not in run("compare", file, int8, run_copy).stderr
    # The images were moved: they are known if all of them are there.
    write_checked(run_copy / "run.json", record | {"data": str(tmp_path / "gone")})
    assert told in run("evaluate", file, tiny_data).stderr
    shutil.copytree(tiny_data / "dark", tmp_path / "some" / "dark")
    assert "learned from" not in run("evaluate", file, tmp_path / "some").stderr
