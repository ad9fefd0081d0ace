from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import CLASSES, make_data

from edgecls import cli, demo
from edgecls.config import ExportConfig, TrainConfig
from edgecls.export import gate, onnx, tflite
from edgecls.images.contact_sheet import CAPTION, CELL
from edgecls.model_file.read import read_model_file
from edgecls.runtime.classifier import load


@pytest.fixture
def small_demo(tiny_config: TrainConfig, file_named: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo on three classes of few images, with graphs converted before, in seconds."""

    def unpack(folder: Path) -> Path:
        if not folder.exists():
            make_data(folder / "train", 9)
            make_data(folder / "test", 6)
        return folder

    for module, kind in ((tflite, "tflite"), (onnx, "onnx")):
        graph = read_model_file(file_named(f"model-int8.{kind}").read_bytes()).graph
        monkeypatch.setattr(module, "to_int8", lambda *_, graph=graph, **__: graph)
    # These graphs are of another network than the one that is trained.
    monkeypatch.setattr(gate, "MOST_DIFFERENCE", 1)
    monkeypatch.setattr(demo, "unpack_demo_data", unpack)
    monkeypatch.setattr(demo, "TRAIN_CONFIG", dataclasses.replace(tiny_config, blocks=4, epochs=1, augment=None))
    monkeypatch.setattr(demo, "EXPORT_CONFIG", ExportConfig(precisions=("int8",), max_drop=1))


@pytest.mark.usefixtures("small_demo")
def test_the_demo_trains_exports_scores_and_shows(tmp_path: Path) -> None:
    out = tmp_path / "new" / "demo"
    done = CliRunner().invoke(cli.main, ["demo", "--out", str(out)])
    files = sorted(path.name for path in (out / "run" / "export").glob("model-int8*"))
    assert {name.replace(".rejected", "") for name in files} == {"model-int8.onnx", "model-int8.tflite"}
    # After one epoch the accuracy check may fail; then the exit code must say so.
    assert done.exit_code == any("rejected" in name for name in files), done.output
    for name in files:
        assert re.search(rf"^{re.escape(name)} +[\d,]+ +[\d.]+ % +[+-][\d.]+ +[\d.]+ %", done.stdout, re.MULTILINE)
    assert "(Keras, float)" in done.stdout
    shown = len(CLASSES) * demo.SHOWN_PER_CLASS
    told = re.search(rf"(\d+) of the {shown} test images in (\S+) are labeled correctly", done.stdout)
    assert told is not None and told[2] == str(out / "contact-sheet.png")
    assert _count_correct(out) == int(told[1])
    assert f"Open it, and the report of the run: {out / 'run' / 'report.html'}" in done.stdout
    assert (out / "run" / "report.html").is_file()
    # The diagnosis of a run that hardly learned.
    assert re.search(r"^(error|warning|note): ", done.stdout, re.MULTILINE)
    tflite = next(name for name in files if name.endswith("tflite"))
    command = f"Next: edgecls predict {out / 'run' / 'export' / tflite} "
    assert Path(done.stdout.partition(command)[2].splitlines()[0]).is_relative_to(out / "images" / "test")
    with Image.open(out / "contact-sheet.png") as sheet:
        colors = set(sheet.convert("L").tobytes())
        assert sheet.size == (8 * CELL, -(-shown // 8) * (CELL + CAPTION))
        assert len(colors) > 50
    assert sorted(path.name for path in out.iterdir()) == ["contact-sheet.png", "images", "run"]


def _count_correct(out: Path) -> int:
    """Return how many of the shown images the file labels correctly, by asking it again."""
    (file,) = (out / "run" / "export").glob("model-int8*.tflite")
    images = [sorted((out / "images" / "test" / label).iterdir())[: demo.SHOWN_PER_CLASS] for label in sorted(CLASSES)]
    with load(file) as classifier:
        return sum(classifier.predict(path).label == path.parent.name for paths in images for path in paths)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    done = CliRunner().invoke(cli.main, ["demo", "--out", str(blocked)])
    assert done.exit_code == 1
    assert "cannot unpack the demo images" in done.stderr
    assert blocked.read_text() == "mine"


@pytest.mark.parametrize("name", ["run/run.json", "run.partial/checkpoint-classifier.npz", "contact-sheet.png"])
def test_a_run_of_the_user_is_not_replaced(name: str, tmp_path: Path) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    done = CliRunner().invoke(cli.main, ["demo", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "was not made by the demo and would be replaced; give --out a new or an empty folder" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine"


def test_the_real_settings_name_both_formats_in_int8() -> None:
    assert "int8" in demo.EXPORT_CONFIG.precisions
    assert set(demo.EXPORT_CONFIG.formats) == {"tflite", "onnx"}
    assert demo.EXPORT_CONFIG.max_drop == 0.01
