"""Candidates of the tiny run's files, in the real engines."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from choices import rewrite
from PIL import Image
from tiny import CLASSES, make_data

from edgecls.boards.profiles import load_profile
from edgecls.boards.targets import detect_target
from edgecls.choose import candidates
from edgecls.choose.candidates import Candidate, Images, _compiled, find_candidates, load_images
from edgecls.errors import DataError, ModelFileError
from edgecls.export.artifact import ExportResult
from edgecls.export.run_files import RunFile
from edgecls.runtime.classifier import load


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "default_threads", lambda: 2)


@pytest.fixture
def files(tiny_export: ExportResult) -> list[RunFile]:
    return [RunFile(tiny_export.folder / file.path, file.format, file.precision, True) for file in tiny_export.files]  # type: ignore[arg-type]


@pytest.fixture
def images(tiny_run: Path, tiny_data: Path) -> Images:
    return load_images(tiny_run, tiny_data)


def reasons(found: tuple[Candidate, ...], engine: str, device: str = "cpu") -> set[str]:
    return {each.rejected_because for each in found if (each.engine, each.device) == (engine, device)}


def overflows(file: str, engine: str) -> bool:
    """Return whether sums of int8 products may overflow, so that the way is rejected on a processor without VNNI."""
    return detect_target() == "x86" and engine == "openvino" and file == "model-int8.tflite"


def test_every_file_in_every_engine_with_every_number_of_threads(files: list[RunFile], images: Images) -> None:
    found = find_candidates(files, images, CLASSES, 1)
    ways = [(each.file.name, each.engine, each.threads) for each in found if not each.rejected_because]
    expected = {
        (f"model-{precision}.{kind}", engine, threads)
        for precision in ("fp32", "int8")
        for kind, engines in (("tflite", ("litert", "openvino")), ("onnx", ("onnxruntime", "openvino")))
        for engine in engines
        for threads in (1, 2)
    }
    assert set(ways) | {way for way in expected if overflows(*way[:2])} == expected
    assert len(ways) == len(set(ways)) >= 14
    # What is not here is listed too.
    assert {each.device for each in found} == {"cpu", "cuda", "tensorrt", "edgetpu"}
    assert all(each.threads is None and each.comparison is None for each in found if each.device != "cpu")
    assert all("CUDAExecutionProvider" in reason for reason in reasons(found, "onnxruntime", "cuda"))
    assert all("needs a compiled file" in reason for reason in reasons(found, "litert", "edgetpu"))
    fp32 = next(each for each in found if each.precision == "fp32")
    assert fp32.comparison is not None and fp32.comparison.agreement == 1


def test_the_number_of_threads_does_not_change_scores(files: list[RunFile], images: Images) -> None:
    # Scoring each file once per engine relies on this.
    for file in files:
        for engine in ("litert" if file.format == "tflite" else "onnxruntime", "openvino"):
            one, four = (load(file.path, engine=engine, threads=count).scores(images.split.images) for count in (1, 4))
            np.testing.assert_allclose(one, four, atol=1e-5)


def test_an_engine_that_is_not_installed_is_a_candidate_with_its_pip_line(
    files: list[RunFile], images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find_spec(name))
    found = find_candidates(files, images, CLASSES, 1)
    assert reasons(found, "openvino") == {"openvino is not installed; pip install 'edgecls[openvino]'"}
    assert "" in reasons(found, "litert")


def test_missing_and_rejected_files_are_candidates(files: list[RunFile], images: Images) -> None:
    absent = RunFile(Path("model-fp16.onnx"), "onnx", "fp16", False, "it is not exported")
    int8 = next(file for file in files if file.precision == "int8" and file.format == "tflite")
    bad = RunFile(int8.path, "tflite", "int8", True, "rejected at export: failed")
    found = find_candidates([files[0], absent, bad], images, CLASSES, 1)
    assert {each.rejected_because for each in found if each.file == absent.path} == {"it is not exported"}
    on_cpu = [each for each in found if each.file == bad.path and each.device == "cpu"]
    # Rejected files are scored and timed too.
    assert len(on_cpu) == 4 and all(each.comparison and each.threads for each in on_cpu)
    assert {each.rejected_because for each in on_cpu} == {"rejected at export: failed"}


def test_a_file_that_loses_too_much_here_is_rejected(files: list[RunFile], images: Images) -> None:
    assert images.float_scores is not None
    # As if the float model had been right on every image with another network than the files'.
    right = np.eye(len(CLASSES), dtype=np.float32)[images.split.labels]
    wrong = np.roll(images.split.labels, 1)
    shifted = Images(type(images.split)(images.split.paths, images.split.images, wrong), "x", np.roll(right, 1, 0))
    found = [each for each in find_candidates(files, shifted, CLASSES, 0.01) if each.device == "cpu"]
    assert all(
        each.rejected_because.startswith("failed: ")
        or (overflows(each.file.name, each.engine) and each.rejected_because)
        for each in found
    )
    assert all(each.comparison is not None for each in found)


def test_a_board_refuses_files_engines_and_threads(files: list[RunFile], images: Images) -> None:
    found = find_candidates(files, images, CLASSES, 1, profile=load_profile("raspberry-pi-4b-32bit"))
    assert all(reason for reason in reasons(found, "onnxruntime"))
    assert all("PyPI has no openvino" in reason or "does not run on" in reason for reason in reasons(found, "openvino"))
    assert reasons(found, "litert") == {""}
    # They are not timed.
    assert {each.threads for each in found if each.rejected_because} == {None}
    # Int8 sums that overflow without VNNI.
    onnx = [file for file in files if file.format == "onnx" and file.precision == "int8"]
    found = find_candidates([files[0], *onnx], images, CLASSES, 1, profile=load_profile("desktop-x86"))
    refused = {each.rejected_because for each in found if each.precision == "int8" and each.device == "cpu"}
    made_for_vnni = "made for x86-vnni" in "".join(refused)
    assert made_for_vnni == all("overflow" in reason for reason in refused)


def test_held_out_images_are_taken_if_data_holds_them(tiny_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    record = json.loads((tiny_run / "run.json").read_text())
    held_out = sum(map(len, record["split"]["test"].values()))
    images = load_images(tiny_run, tiny_data)
    assert (len(images.split.paths), images.note) == (held_out, "")
    assert images.float_scores is not None and "held-out" in images.name
    # One that changed: then all of the folder, with a word on what was learned from.
    copy = Path(shutil.copytree(tiny_data, tmp_path / "copy"))
    (path, *_) = record["split"]["test"]["dark"]
    Image.new("L", (40, 36), 90).save(copy / Path(path).with_suffix(".png"))
    if not path.endswith(".png"):
        (copy / path).unlink()
    images = load_images(tiny_run, copy)
    assert images.float_scores is None and len(images.split.paths) == 42
    learned = sum(map(len, record["split"]["train"].values()))
    assert f"{learned} of these images are training images of the run" in images.note


def test_other_images_are_held_against_the_float_file(files: list[RunFile], tiny_run: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "new" / "test", 5).parent
    (data / "test" / "notes.txt").write_text("no image")
    images = load_images(tiny_run, data)
    assert images.note.startswith("Left out 1 file: 1 *.txt")
    # By their paths alone they could be the run's.
    assert images.float_scores is None and "new" in images.name and len(images.split.paths) == 15
    shutil.rmtree(data / "test" / CLASSES[0])
    few = load_images(tiny_run, data)
    assert f"has no image of {CLASSES[0]}, so the accuracy of the files does not cover that. Left out" in few.note
    found = find_candidates(files, images, CLASSES, 1)
    fp32 = next(each for each in found if each.precision == "fp32")
    assert fp32.comparison is not None and fp32.comparison.drop == 0
    with pytest.raises(ModelFileError, match="no float file can be scored"):
        find_candidates([file for file in files if file.precision == "int8"], images, CLASSES, 1)


def test_images_that_are_read_as_nearly_black_are_said(tiny_run: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "new" / "test", 5).parent
    Image.fromarray(np.full((30, 40), 3000, np.uint16)).save(data / "test" / CLASSES[1] / "deep.png")
    assert load_images(tiny_run, data).note.startswith("a 16-bit image has no value above 4095 of 65535")


def test_folders_of_other_classes_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "cats" / "a.png")
    with pytest.raises(DataError, match="are not the classes of the model"):
        load_images(tiny_run, tmp_path)
    with pytest.raises(ModelFileError, match="not a run folder"):
        load_images(tmp_path, tmp_path)


def test_a_file_that_was_compiled_from_an_earlier_export_is_named(
    tmp_path: Path, file_named: Callable[[str], Path]
) -> None:
    path = Path(shutil.copy(file_named("model-int8.tflite"), tmp_path))
    compiled = tmp_path / "model-int8_edgetpu.tflite"
    file = RunFile(path, "tflite", "int8", True)
    assert _compiled(file) == file
    shutil.copy(path, compiled)
    rewrite(compiled, metrics={"measured_on": path.name}, versions={"edgetpu_compiler": "16"})
    assert _compiled(file) == replace(file, path=compiled)
    rewrite(path, created="another day")
    found = _compiled(file)
    assert not found.is_there and "was compiled from an earlier model-int8.tflite; compile it again" in found.problem
    compiled.write_bytes(b"cut")
    assert not _compiled(file).is_there and str(compiled) in _compiled(file).problem
