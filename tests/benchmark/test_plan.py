from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from benchmark_files import write_model
from PIL import Image

from edgecls.benchmark.plan import MAX_IMAGES, Configuration, Settings, list_images, plan
from edgecls.errors import ConfigError, DataError, ModelFileError
from edgecls.images.leftovers import LeftOut


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def tflite(tmp_path: Path) -> Path:
    # Planning looks at the first bytes alone.
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    return path


def ways(found: tuple[Configuration, ...]) -> list[tuple[str, str | None, int | None]]:
    return [(Path(each.file).name, each.engine, each.threads) for each in found]


def test_nothing_asked_for_is_the_usual(onnx: Path) -> None:
    assert plan([onnx]) == (Configuration(str(onnx)),)


def test_every_file_in_every_engine_that_runs_it_with_every_number_of_threads(onnx: Path, tflite: Path) -> None:
    found = plan([onnx, tflite], ["ort", "openvino", "litert", "onnxruntime"], [1, 4, 1])
    assert ways(found) == [
        ("model.onnx", "onnxruntime", 1),
        ("model.onnx", "onnxruntime", 4),
        ("model.onnx", "openvino", 1),
        ("model.onnx", "openvino", 4),
        ("model.tflite", "openvino", 1),
        ("model.tflite", "openvino", 4),
        ("model.tflite", "litert", 1),
        ("model.tflite", "litert", 4),
    ]


def test_images_and_device_are_handed_on(onnx: Path) -> None:
    (found,) = plan([onnx], device="cuda", images=[Path("a.png"), Path("b.png")])
    assert (found.device, found.images) == ("cuda", ("a.png", "b.png"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engines": ["litert"]}, "'litert' cannot run onnx files"),
        ({"engines": ["nothing"]}, "'nothing' cannot run onnx files"),
        ({"device": "edgetpu"}, "no engine runs onnx files on device 'edgetpu'"),
        ({"threads": [1, 0]}, "threads must be 1 to 1024; received 0"),
    ],
)
def test_what_cannot_run_is_an_error(onnx: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan([onnx], **changes)


def test_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such model file"):
        plan([tmp_path / "none.tflite"])


@pytest.mark.parametrize(
    "changes",
    [{"scope": "all"}, {"seconds": 0}, {"seconds": float("nan")}, {"fps": 0.0}, {"fps": 30, "scope": "load"}],
)
def test_settings_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="received|leave one out"):
        Settings(**changes)


def test_images_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image in"):
        list_images(tmp_path)
    for number in range(3):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    Image.new("L", (4, 4)).save(tmp_path / "3", "PNG")
    assert [path.name for path in list_images(tmp_path)] == ["0.png", "1.png", "2.png", "3"]
    for number in range(3 * MAX_IMAGES):
        (tmp_path / f"{number:04}.jpg").touch()
    left_out = LeftOut()
    (tmp_path / "none.png").symlink_to("nowhere")
    many = list_images(tmp_path, left_out)
    assert str(left_out).startswith("Left out 2 files: 1 *.txt (") and "1 that are not regular files" in str(left_out)
    assert MAX_IMAGES / 2 < len(many) <= MAX_IMAGES
    assert many[-1].name > "0700.jpg"
