"""The Torq engine and its comparison with LiteRT's reference kernels, with a package that stands for the simulator."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image
from tiny import HEIGHT, WIDTH
from torq_programs import Runner, install, install_runtime

from edgecls.model_file.read import read_model_file
from edgecls.model_file.selftest import add_scores, golden_images, make_golden
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import load
from edgecls.runtime.torq_simulator import compare_in_simulator

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the programs are scripts")


class Rotated(Runner):
    """Gives the scores to other labels."""

    shift = 1


class Broken(Runner):
    """Fails as another package does."""

    def infer(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        raise RuntimeError("no such device")


@pytest.fixture(params=["uint8", "float32"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with golden samples, of scores in uint8 or in float."""
    source = request.getfixturevalue("tiny_tflite" if request.param == "uint8" else "tiny_tflite_fp32")
    rng, paths = np.random.default_rng(0), []
    for number in range(3):
        pixels = np.kron(rng.integers(0, 256, (HEIGHT // 4, WIDTH // 2)), np.ones((4, 2))).astype(np.uint8)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    model = read_model_file(source)
    with load(source) as classifier:
        golden = add_scores(make_golden(paths, HEIGHT, WIDTH), classifier)
    path = tmp_path / "model.tflite"
    path.write_bytes(attach_spec(model.graph, replace(model.spec, golden=golden), "tflite"))
    return path


def test_equal_scores_are_reported(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "bin")
    install_runtime(monkeypatch)
    found = compare_in_simulator(file)
    assert (found.level, found.rule) == ("ok", "simulator")
    assert "3 of 3 golden images get the label" in found.text and "at most 0.000" in found.text


def test_other_scores_are_a_reason_not_to_use_it(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "bin")
    install_runtime(monkeypatch, Rotated)
    done = run("check", file, "--board", "synaptics-coralboard", "--compile")
    assert done.exit_code == 1
    assert "0 of 3 golden images" in done.stdout and "does not run" in done.stderr


def test_without_the_simulator_the_note_says_why(
    file: Path, tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "bin")
    done = run("check", file, "--board", "synaptics-coralboard", "--compile")
    assert done.exit_code == 0, done.stderr
    assert "not run: torq-runtime cannot be imported" in done.stdout
    assert f"torq-compile wrote {file.with_suffix('.vmfb')}" in done.stdout
    assert "--compile" in run("check", file, "--board", "synaptics-coralboard").stdout
    install_runtime(monkeypatch, Broken)
    assert "torq-runtime failed: no such device" in compare_in_simulator(file).text
    assert "no golden samples" in compare_in_simulator(tiny_tflite).text


def test_the_engine_gives_litert_scores(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "bin")
    install_runtime(monkeypatch)
    images = golden_images(read_model_file(file).spec)
    with load(file) as classifier, load(file, device="torq-simulator") as simulated:
        assert (simulated.engine.name, simulated.engine.device) == ("torq", "torq-simulator")
        found, wanted = simulated.scores(images), classifier.scores(images)
    # XNNPACK rounds in another way than the reference kernels.
    assert wanted.std(0).max() > 0.05
    assert np.abs(found - wanted).max() < 0.02


def test_selftest_and_evaluate_run_in_the_simulator(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, tmp_path / "bin")
    install_runtime(monkeypatch)
    photos = tmp_path / "photos"
    with load(file) as classifier:
        for number in range(3):
            image = tmp_path / f"{number}.png"
            label = classifier.predict(image).label
            assert label is not None
            folder = photos / label
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder)
    arguments = file, "--device", "torq-simulator"
    assert "torq of unknown version agree on 3 golden images" in run("selftest", *arguments).stdout
    assert "accuracy 1.0000" in run("evaluate", *arguments, photos).stdout
    # Not the CPU's answer under another name.
    install_runtime(monkeypatch, Rotated)
    done = run("selftest", *arguments)
    assert done.exit_code == 1 and "engine differs" in done.stderr
    assert "accuracy 0.0000" in run("evaluate", *arguments, photos).stdout


@pytest.mark.parametrize("command", ["benchmark", "serve"])
def test_it_is_no_engine_to_time_or_to_serve(file: Path, command: str) -> None:
    done = run(command, file, "--engine", "torq")
    assert done.exit_code == 2
    assert "'torq' is not one of 'litert', 'onnxruntime', 'openvino', 'ort'" in done.stderr


def test_without_the_simulator_evaluate_says_what_to_install(file: Path, tmp_path: Path) -> None:
    done = run("evaluate", file, tmp_path, "--device", "torq-simulator")
    assert done.exit_code == 1
    assert "torq-runtime cannot be imported" in done.stderr and "Python 3.12" in done.stderr


def test_the_heat_map_is_its_second_output(tiny_heatmap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, tmp_path / "bin")
    install_runtime(monkeypatch)
    image = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 1), np.uint8)
    with load(tiny_heatmap) as classifier, load(tiny_heatmap, device="torq-simulator") as simulated:
        found, wanted = simulated.predict(image), classifier.predict(image)
    assert found.heatmap is not None and wanted.heatmap is not None
    np.testing.assert_allclose(found.heatmap, wanted.heatmap, atol=1e-4)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)
