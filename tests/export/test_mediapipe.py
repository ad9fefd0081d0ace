"""What MediaPipe itself says of an exported file: needs `pip install --group mediapipe`, and is skipped without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import CLASSES, SIZE

from edgecls.cli.export import export
from edgecls.config import ExportConfig
from edgecls.errors import ExportError
from edgecls.export import mediapipe
from edgecls.export.artifact import ExportResult, export_run
from edgecls.export.gate import compare
from edgecls.files import read_json
from edgecls.images.dataset import Split
from edgecls.model_file.read import read_spec
from edgecls.runtime.classifier import load

needs_mediapipe = pytest.mark.skipif(
    not mediapipe.is_installed(), reason="MediaPipe is not installed: pip install --group mediapipe"
)
CONFIG = ExportConfig(precisions=("fp32", "int8"), formats=("tflite",), max_drop=1, input="rgb")


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    return export_run(tiny_run, CONFIG, out=tmp_path_factory.mktemp("mediapipe") / "out")


def say_nothing(done: int, total: int) -> None:
    pass


@needs_mediapipe
def test_the_gate_asks_mediapipe_too(exported: ExportResult) -> None:
    entries = read_json(exported.folder / "export.json")["files"]
    for file, entry in zip(exported.files, entries, strict=True):
        assert file.in_mediapipe is not None and entry["in_mediapipe"] == file.in_mediapipe
        assert file.in_mediapipe["agreement"] == 1
        assert file.in_mediapipe["accuracy"] == file.comparison.accuracy
        assert 0 < file.in_mediapipe["accuracy_of_files"] <= 1
    assert mediapipe.NOT_INSTALLED not in exported.notes


@needs_mediapipe
def test_labels_are_compared_by_name_and_files_are_given_in_their_own_size(
    exported: ExportResult, tmp_path: Path
) -> None:
    path = exported.folder / "model-int8.tflite"
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, SIZE, SIZE, 1)).astype(np.uint8)
    with load(path) as classifier:
        scores = np.stack([classifier.predict(image[:, :, 0]).scores for image in pixels])
    # The files show the other gray of each image, so that only their labels may differ.
    names = tuple(f"{number}.png" for number in range(len(pixels)))
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(255 - image[:, :, 0]).save(tmp_path / name)
    images = Split(names, pixels, scores.argmax(1))
    spec, progress = read_spec(path), []
    found = mediapipe.run_in_mediapipe(
        path.read_bytes(), spec, tmp_path, images, scores, lambda *done: progress.append(done)
    )
    assert (found.accuracy, found.agreement) == (1, 1)
    assert progress == [(done, 12) for done in range(1, 13)]
    with load(path) as classifier:
        others = [classifier.predict(tmp_path / name).index for name in names]
    assert found.accuracy_of_files == np.mean(np.equal(others, scores.argmax(1)))
    # With the labels' names exchanged, no label is the same.
    turned = mediapipe.run_in_mediapipe(
        path.read_bytes(), replace(spec, labels=(*CLASSES[1:], CLASSES[0])), tmp_path, images, scores, say_nothing
    )
    assert (turned.accuracy, turned.agreement) == (0, 0)


@needs_mediapipe
def test_what_mediapipe_cannot_load_is_an_error_with_its_reason(exported: ExportResult, tmp_path: Path) -> None:
    images = Split((), np.zeros((0, SIZE, SIZE, 1), np.uint8), np.zeros(0, np.int64))
    spec = read_spec(exported.folder / "model-int8.tflite")
    with pytest.raises(ExportError, match="loading the file in MediaPipe failed"):
        mediapipe.run_in_mediapipe(b"no file", spec, tmp_path, images, np.zeros((0, 3), np.float32), say_nothing)


@pytest.mark.parametrize(("precision", "agreement", "passes"), [("int8", 0.992, True), ("fp32", 0.992, False)])
def test_other_labels_than_those_of_litert_fail(precision: str, agreement: float, passes: bool) -> None:
    scores = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    comparison = compare(scores, scores, np.arange(30) % 3, list(CLASSES), 0.01)
    judged = mediapipe.judge(comparison, mediapipe.InMediaPipe(0.99, agreement, 0.99), precision)
    assert judged.passed is passes
    assert ("99.2 % of the images the same label in MediaPipe as in LiteRT" in judged.verdict) is not passes


def test_a_file_that_mediapipe_labels_otherwise_is_rejected_and_says_so(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mediapipe, "is_installed", lambda: True)
    monkeypatch.setattr(mediapipe, "run_in_mediapipe", lambda *_: mediapipe.InMediaPipe(0.6, 0.5, 0.4))
    arguments = [str(tiny_run), "--input", "rgb", "--max-drop", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(export, arguments)
    assert result.exit_code == 1 and "50.0 % of the images the same label in MediaPipe as in LiteRT" in result.output
    assert "MediaPipe's own resizing costs accuracy: 40.00 %" in result.output
    assert read_spec(tmp_path / "out/model-fp32.rejected.tflite").metrics["passed"] is False


def test_without_mediapipe_the_user_is_told(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediapipe, "is_installed", lambda: False)
    result = CliRunner().invoke(
        export, [str(tiny_run), "--input", "rgb", "--max-drop", "1", "--out", str(tmp_path / "out")]
    )
    assert result.exit_code == 0, result.output
    assert "MediaPipe is not installed" in result.output
    assert read_json(tmp_path / "out/export.json")["files"][0]["in_mediapipe"] is None
