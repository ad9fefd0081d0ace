"""Commands that use an exported file: predict, evaluate, info."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import check_stages, run, run_process
from tiny import CLASSES, SIZE

from edgecls.messages.names import safe
from edgecls.model_file.read import read_model_file
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import load


def test_predict_names_every_image_in_order(int8: Path, pictures: list[Path]) -> None:
    done = run("predict", int8, *pictures)
    assert (done.exit_code, done.stderr) == (0, "")
    labels = [
        line.removeprefix(f"{path}: ").split()[0] for line, path in zip(done.stdout.splitlines(), pictures, strict=True)
    ]
    assert labels == list(CLASSES)


def test_more_labels_than_classes_shows_all_of_them(int8: Path, pictures: list[Path]) -> None:
    done = run("predict", int8, pictures[1], "--top-k", 99)
    ranked = [part.split() for part in done.stdout.removeprefix(f"{pictures[1]}: ").split(", ")]
    assert ranked[0][0] == "dark"
    assert sorted(label for label, _ in ranked) == sorted(CLASSES)
    scores = [float(score) for _, score in ranked]
    assert scores == sorted(scores, reverse=True)
    assert run("predict", int8, pictures[1], "--top-k", 2).stdout.count(",") == 1


def test_text_and_json_agree_when_scores_are_equal(
    int8: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 8-bit scores are equal quite often.
    equal = np.array([0.1, 0.45, 0.45], np.float32)
    monkeypatch.setattr("edgecls.runtime.litert.LitertEngine.run", lambda *_: equal)
    text = run("predict", int8, pictures[0]).stdout.removeprefix(f"{pictures[0]}: ")
    (entry,) = json.loads(run("predict", int8, pictures[0], "--json").stdout)
    assert text.split()[0] == entry["label"] == "dark"


def test_predict_json_is_one_document_with_the_designs_keys(int8: Path, pictures: list[Path]) -> None:
    done = run_process("predict", int8, *pictures, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    entries = json.loads(done.stdout)
    assert [entry["image"] for entry in entries] == [str(path) for path in pictures]
    for index, entry in enumerate(entries):
        assert entry.keys() == {"image", "label", "index", "score", "scores"}
        assert (entry["label"], entry["index"]) == (CLASSES[index], index)
        assert list(entry["scores"]) == list(CLASSES)
        assert entry["score"] == entry["scores"][entry["label"]] == max(entry["scores"].values())


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_predict_goes_on_past_a_bad_image(int8: Path, pictures: list[Path], tmp_path: Path, flags: list[str]) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(pictures[0].read_bytes()[:60])
    done = run("predict", int8, pictures[0], bad, tmp_path / "gone.png", pictures[2], *flags)
    assert done.exit_code == 1
    assert "bad.png" in done.stderr and "gone.png" in done.stderr
    assert "2 of 4 images could not be read" in done.stderr
    assert "bad.png" not in done.stdout
    if flags:
        assert [entry["label"] for entry in json.loads(done.stdout)] == ["bright", "striped"]
    else:
        assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_file_names_that_are_not_unicode(int8: Path, pictures: list[Path], tmp_path: Path, flags: list[str]) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    odd.write_bytes(pictures[1].read_bytes())
    done = subprocess.run([sys.executable, "-m", "edgecls", "predict", int8, odd, *flags], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    if flags:
        (entry,) = json.loads(done.stdout)
        assert (entry["image"], entry["label"]) == (str(odd), "dark")
    else:
        assert done.stdout.startswith(os.fsencode(odd) + b": dark")


def test_evaluate_json_is_one_document_with_the_designs_keys(int8: Path, tiny_data: Path) -> None:
    done = run_process("evaluate", int8, tiny_data, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.keys() >= {"file", "images", "accuracy", "macro_f1", "per_class", "confusion", "ece"}
    assert (result["file"], result["images"]) == (str(int8), 42)
    assert list(result["per_class"]) == list(CLASSES)
    assert all(metrics.keys() >= {"recall", "precision", "support"} for metrics in result["per_class"].values())
    assert np.shape(result["confusion"]) == (3, 3)
    assert np.sum(result["confusion"]) == 42
    check_stages(done.stderr, ("read images", "score images"))


def test_evaluate_says_which_class_it_cannot_judge(int8: Path, pictures: list[Path], tmp_path: Path) -> None:
    for name, picture in zip(CLASSES[:2], pictures, strict=False):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "1.png").write_bytes(picture.read_bytes())
    (tmp_path / "test" / CLASSES[0] / "Thumbs.db").touch()
    done = run("evaluate", int8, tmp_path, "--json")
    assert done.exit_code == 0
    assert f"has no image of {CLASSES[2]}, so the accuracy does not cover that" in done.stderr
    assert "Left out 1 file: 1 Thumbs.db (thumbnails of Windows)." in done.stderr
    result = json.loads(done.stdout)
    assert result["per_class"][CLASSES[2]]["recall"] is None and result["per_class"][CLASSES[0]]["recall"] is not None
    row = next(line for line in run("evaluate", int8, tmp_path).stdout.splitlines() if line.startswith(CLASSES[2]))
    assert row.split()[1:3] == ["0", "-"]


def test_evaluate_shows_a_line_for_each_class(int8: Path, tiny_data: Path) -> None:
    done = run("evaluate", int8, tiny_data)
    assert done.exit_code == 0
    assert done.stdout.startswith("images 42  accuracy ")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == list(CLASSES)


@pytest.mark.parametrize("name", ["model-int8.tflite", "model-fp32.onnx"])
def test_info_shows_the_metadata(file_named: Callable[[str], Path], name: str) -> None:
    path = file_named(name)
    contract: dict[str, Any] = json.loads(run("info", path, "--json").stdout)
    assert (contract["file"], contract["bytes"]) == (str(path), path.stat().st_size)
    assert contract["labels"] == list(CLASSES)
    assert (contract["height"], contract["width"]) == (SIZE, SIZE)
    assert contract["graph_sha256"] == load(path).spec.graph_sha256
    text = run("info", path).stdout
    assert "bright, dark, striped" in text
    assert f"{path.stat().st_size:,}" in text
    points = contract["metrics"]["known_images"]["points"]
    assert f'"points": "{len(points)} values, see --json"' in text and max(map(len, text.splitlines())) < 2000


def test_info_notices_a_damaged_file(int8: Path, tmp_path: Path) -> None:
    data = bytearray(int8.read_bytes())
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(data)
    done = run("info", damaged)
    assert done.exit_code == 1
    assert "damaged" in done.stderr


def test_info_and_selftest_do_not_let_a_file_talk_to_the_terminal(
    int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, graph, spec = read_model_file(int8.read_bytes())
    sample = {**spec.golden[0], "name": "\x1b[2Jä.png", "scores": [0.0, 0.0, 0.0]}
    odd = tmp_path / "odd.tflite"
    odd.write_bytes(attach_spec(graph, replace(spec, golden=(sample,), graph_sha256=""), "tflite"))
    for module in ("edgecls.cli", "edgecls.cli.terminal"):
        monkeypatch.setattr(f"{module}.for_stream", lambda text, err=False: safe(text))
    shown, failed = run("info", odd), run("selftest", odd)
    assert shown.exit_code == 0 and failed.exit_code == 1
    for text in (shown.stdout, failed.stderr):
        assert "\x1b" not in text and "\\x1b[2Jä.png" in text
