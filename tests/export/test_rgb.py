"""Files that take RGB pixels: the scores of their gray, the metadata that MediaPipe reads, and MediaPipe itself."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_networks import diverse_images, random_network
from tflite_graphs import run
from tiny import CLASSES, SIZE

from edgecls.config import ExportConfig, TrainConfig
from edgecls.errors import ConfigError
from edgecls.export import rgb, tflite
from edgecls.export.artifact import ExportResult, export_run
from edgecls.export.fuse import FusedModel, fuse
from edgecls.model_file.read import read_graph, read_model_file, read_spec
from edgecls.networks.model import build_model
from edgecls.networks.weights import Weights
from edgecls.runtime.classifier import load


def network(kind: str) -> FusedModel:
    if kind in ("keras", "torch"):
        # Only the first layer is another one.
        return fuse(random_network(kind, SIZE, 0.35, "gap", blocks=3), in_blocks=True)
    config = TrainConfig(arch=kind, image_size=SIZE, filters=(8, 16), hidden=(16,))
    return fuse(build_model(config, 3, Weights("none", None, None, "keras")))


def scores(fused: FusedModel, images: np.ndarray) -> np.ndarray:
    centered = images.astype(np.float32) - np.float32(fused.pad_gray)
    return np.concatenate([fused.core(image[None], training=False).numpy() for image in centered])


@pytest.mark.parametrize("kind", ["keras", "torch", "cnn", "mlp"])
def test_the_scores_are_those_of_the_gray(kind: str) -> None:
    gray = diverse_images(12, SIZE, np.random.default_rng(0))
    fused = network(kind)
    converted = rgb.to_rgb(fused)
    assert converted.core.input.shape == (1, SIZE, SIZE, 3)
    expected = scores(fused, gray)
    assert np.ptp(expected, axis=0).min() > 0.01
    assert np.abs(scores(converted, rgb.as_rgb(gray)) - expected).max() < 1e-4
    # Of colors, the luma; not rounded as Pillow rounds it.
    colors = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3)).astype(np.uint8)
    luma = (colors @ np.array(rgb.LUMA))[..., None]
    assert np.abs(scores(converted, colors) - scores(fused, luma)).max() < 1e-3


def test_a_first_layer_that_cannot_take_the_luma_is_named() -> None:
    import keras

    image = keras.Input((8, 8, 1), batch_size=1)
    core = keras.Model(image, keras.layers.Conv2D(2, 3, name="seen")(keras.layers.AveragePooling2D(2)(image)))
    with pytest.raises(ConfigError, match="first layer of this network, 'seen', cannot take RGB"):
        rgb.to_rgb(FusedModel(core, 0))


def test_int8_takes_raw_pixels() -> None:
    fused = network("keras")
    images = diverse_images(16, SIZE, np.random.default_rng(3))
    graph = tflite.to_int8(rgb.to_rgb(fused), rgb.as_rgb(images))
    _, source, _ = run(graph, rgb.as_rgb(images))
    assert (source["dtype"], tuple(source["shape"])) == (np.uint8, (1, SIZE, SIZE, 3))
    assert source["quantization"] == (1.0, fused.pad_gray)


@pytest.fixture(scope="module")
def exported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    config = ExportConfig(precisions=("fp32", "int8"), formats=("tflite",), max_drop=1, input="rgb")
    return export_run(tiny_run, config, out=tmp_path_factory.mktemp("rgb") / "out")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("int8", 0.1)])
def test_edgecls_reads_the_file_as_any_other(
    precision: str, tolerance: float, exported: ExportResult, tiny_export: ExportResult, tiny_data: Path
) -> None:
    name = f"model-{precision}.tflite"
    assert read_spec(exported.folder / name).channels == 3
    assert all(file.passed for file in exported.files)
    with load(exported.folder / name) as ours, load(tiny_export.folder / name) as gray:
        for path in sorted(tiny_data.rglob("*.png"))[::6]:
            assert np.abs(np.subtract(ours.predict(path).scores, gray.predict(path).scores)).max() < tolerance


def test_the_file_names_its_labels_as_litert_does(exported: ExportResult) -> None:
    path = exported.folder / "model-int8.tflite"
    graph = read_model_file(path).graph
    assert rgb.METADATA_NAME.encode() in graph and b"M001" in graph
    assert [tensor.shape for tensor in read_graph(graph, "tflite").inputs] == [(1, SIZE, SIZE, 3)]
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(CLASSES)


def test_an_npu_takes_gray_only(tiny_run: Path) -> None:
    config = ExportConfig(precisions=("int8",), formats=("tflite",), input="rgb", device="coral")
    with pytest.raises(ConfigError, match="files for an NPU take gray images; export without --input rgb"):
        export_run(tiny_run, config)


@pytest.mark.skipif(
    importlib.util.find_spec("mediapipe") is None,
    reason="MediaPipe is not installed: pip install --group mediapipe",
)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("int8", 0.02)])
def test_mediapipe_classifies_by_name(
    precision: str, tolerance: float, exported: ExportResult, tiny_data: Path
) -> None:
    import mediapipe
    from mediapipe.tasks import python
    from mediapipe.tasks.python import vision

    path = exported.folder / f"model-{precision}.tflite"
    options = vision.ImageClassifierOptions(base_options=python.BaseOptions(model_asset_path=str(path)))
    with vision.ImageClassifier.create_from_options(options) as classifier, load(path) as ours:
        for source in sorted(tiny_data.rglob("*.png"))[::4]:
            # The same pixels for both, in the network's size: MediaPipe resizes in another way.
            pixels = np.asarray(Image.open(source).convert("L").resize((SIZE, SIZE)))
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.repeat(pixels[..., None], 3, -1))
            found = classifier.classify(image).classifications[0].categories
            expected = ours.predict(pixels)
            assert {each.category_name for each in found} == set(CLASSES)
            by_name = {each.category_name: each.score for each in found}
            given = [by_name[label] for label in CLASSES]
            assert np.abs(np.subtract(given, expected.scores)).max() < tolerance
