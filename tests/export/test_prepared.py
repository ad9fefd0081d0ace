"""What --prepared writes: the same network in three formats, and calibration images that other tools read."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
from PIL import Image
from tiny import CLASSES, SIZE

from edgecls.config import ExportConfig
from edgecls.errors import ConfigError, ExportError
from edgecls.export import prepared
from edgecls.export.prepared import WRITERS, PreparedResult, export_prepared
from edgecls.training.run.run_folder import SCORES_FILE

KINDS = tuple(WRITERS)
CONFIG = ExportConfig(max_drop=1)


@pytest.fixture(scope="module")
def result(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedResult:
    return export_prepared(tiny_run, CONFIG, KINDS, out=tmp_path_factory.mktemp("prepared") / "out")


@pytest.fixture(scope="module")
def record(result: PreparedResult) -> dict[str, Any]:
    return dict(json.loads((result.folder / "prepared.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def images(result: PreparedResult, record: dict[str, Any]) -> np.ndarray:
    """The calibration images as the networks take them, float32 (N, S, S, 1)."""
    stored = np.load(result.folder / "calibration.npy")
    return np.asarray((stored.astype(np.float32) - record["mean"]) / record["std"])


def test_all_formats_are_the_same_network(result: PreparedResult, images: np.ndarray) -> None:
    # As in another vendor's environment: the file that lies beside the network, and no edgecls.
    spec = importlib.util.spec_from_file_location("their_rebuild", result.folder / "rebuild.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rebuilt = module.rebuild(result.folder / "prepared.npz", keras)(images).numpy()
    loaded = keras.models.load_model(result.folder / "prepared.keras")(images).numpy()
    session = onnxruntime.InferenceSession(result.folder / "prepared.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    scores = np.concatenate([session.run(None, {name: image.transpose(2, 0, 1)[None]})[0] for image in images])
    assert rebuilt.shape == (len(images), len(CLASSES)) and np.ptp(scores, axis=0).min() > 0.1
    assert np.abs(rebuilt - loaded).max() < 1e-5
    assert np.abs(scores - loaded).max() < 1e-4


def test_the_onnx_file_is_nchw_with_plain_operators(result: PreparedResult) -> None:
    network = onnx_package.load(result.folder / "prepared.onnx")
    shape = [side.dim_value for side in network.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, 1, SIZE, SIZE]
    operators = {node.op_type for node in network.graph.node}
    # ReLU6 is Clip. No transposes between layers, and no space-to-depth.
    assert operators <= {"Conv", "Clip", "Add", "GlobalAveragePool", "ReduceMean", "Reshape", "Squeeze", "Softmax"}


def test_every_file_is_scored_on_held_out_images(
    result: PreparedResult, record: dict[str, Any], tiny_run: Path
) -> None:
    assert [entry["path"] for entry in record["files"]] == [f"prepared.{kind}" for kind in KINDS]
    float_guesses = np.load(tiny_run / SCORES_FILE).argmax(1)
    assert record["images"] == len(float_guesses) == result.images
    for entry, file in zip(record["files"], result.files, strict=True):
        assert entry["bytes"] == (result.folder / entry["path"]).stat().st_size
        assert entry["accuracy"] == file.comparison.accuracy
        # Rounded weights, so not the same scores; but the same network.
        assert entry["agreement"] > 0.8
    assert len({entry["accuracy"] for entry in record["files"]}) == 1


def test_calibration_images_are_listed_as_files_and_stored_as_one_array(
    result: PreparedResult, record: dict[str, Any]
) -> None:
    stored = np.load(result.folder / "calibration.npy")
    assert stored.dtype == np.uint8 and stored.shape == (record["calibration_images"], SIZE, SIZE, 1)
    names = (result.folder / "calibration.txt").read_text(encoding="utf-8").splitlines()
    assert len(names) == len(stored)
    for name, image in zip(names, stored, strict=True):
        assert np.array_equal(np.asarray(Image.open(result.folder / name)), image[..., 0])


def test_the_weights_stay_on_the_grid_of_the_quantizer(run_copy: Path) -> None:
    export_prepared(run_copy, ExportConfig(max_drop=1, per_tensor=True), ("npz",))
    with np.load(run_copy / "prepared" / "prepared.npz") as stored:
        layers = json.loads(str(stored["layers"]))
        kernels = [stored[f"{layer['name']}/kernel"] for layer in layers if "kernel" in layer["weights"]]
    assert len(kernels) > 20
    # All but the last layer; one step for the whole kernel.
    steps = [kernel / (np.abs(kernel).max() / 127) for kernel in kernels[:-1]]
    assert max(np.abs(step - step.round()).max() for step in steps) < 1e-2
    assert json.loads((run_copy / "prepared" / "prepared.json").read_text(encoding="utf-8"))["per_tensor"] is True


def test_a_folder_of_something_else_stays(run_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no folder that --prepared wrote; give another --out"):
        export_prepared(run_copy, CONFIG, KINDS, out=tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text(encoding="utf-8") == "keep"


def test_a_network_that_lost_too_much_is_not_written(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_nothing_useful(fused: Any, path: Path) -> Any:
        path.write_bytes(b"")
        return lambda images: np.tile(np.eye(len(CLASSES), dtype=np.float32)[0], (len(images), 1))

    monkeypatch.setitem(prepared.WRITERS, "onnx", write_nothing_useful)
    with pytest.raises(ExportError, match=r"the prepared network (collapsed|failed).*so nothing was written; try"):
        export_prepared(run_copy, ExportConfig(), ("onnx",))
    assert not (run_copy / "prepared").exists()


def test_a_layer_that_the_archive_cannot_describe_is_named() -> None:
    image = keras.Input((8, 8, 1))
    network = keras.Model(image, keras.layers.PReLU(name="odd")(image))
    with pytest.raises(ExportError, match=r"prepared.npz cannot hold 'odd', a PReLU; use --format keras"):
        prepared._describe(network)
