"""What tests share: a tiny network in all the kinds that the runtime reads, a tiny run and what it exports."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from board_sshd import BoardSshd, start_sshd
from hypothesis import settings
from made_once import make_once
from PIL import Image
from random_networks import diverse_images, random_network
from tiny import CLASSES, HEIGHT, SIZE, WIDTH, Converted, build_network, draw, make_data, make_spec, save_backbone

from edgecls.config import AugmentConfig, ExportConfig, TrainConfig
from edgecls.model_file.write import attach_spec

if TYPE_CHECKING:
    from edgecls.export.artifact import ExportResult
    from edgecls.parallel.ray import RayPool

GRAPHS = ("fp32.tflite", "fp32.onnx", "int8.tflite", "int8.onnx")
# A busy machine may pause during any example, so none has a time limit.
settings.register_profile("edgecls", deadline=None)
settings.load_profile("edgecls")
# A job in the background of a shell, as CI may be, ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test, and no process that one starts, touches the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "edgecls"


@pytest.fixture(scope="session", autouse=True)
def own_ray() -> None:
    """Ray reads it when it is imported, which a test may do before one that starts a cluster."""
    from edgecls.parallel.ray import keep_to_this_machine

    keep_to_this_machine()


def _calibration() -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(1)
    yield [np.zeros((1, HEIGHT, WIDTH, 1), np.float32)]
    yield [np.full((1, HEIGHT, WIDTH, 1), 255, np.float32)]
    for _ in range(30):
        yield [rng.integers(0, 256, (1, HEIGHT, WIDTH, 1)).astype(np.float32)]


def _convert_tflite(int8: bool, *, heatmap: bool = False) -> bytes:
    import tensorflow as tf

    network = build_network("float32" if int8 else "uint8")
    if heatmap:
        from edgecls.export.fuse import FusedModel
        from edgecls.export.heatmap import add_heatmap

        images = np.random.default_rng(2).integers(0, 256, (4, HEIGHT, WIDTH, 1), np.uint8)
        network = add_heatmap(FusedModel(network, 0), images).core
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = _calibration
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def _convert_onnx() -> bytes:
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec((1, HEIGHT, WIDTH, 1), tf.uint8, name="image")]
    model, _ = tf2onnx.convert.from_keras(build_network("uint8"), signature, opset=17)
    return bytes(model.SerializeToString())


def _write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """int8 TFLite, uint8 in and out."""
    data = attach_spec(_convert_tflite(int8=True), make_spec(precision="int8"), "tflite")
    return _write(tmp_path_factory.mktemp("tiny"), "tiny-int8.tflite", data)


@pytest.fixture(scope="session")
def tiny_tflite_fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float TFLite, uint8 in."""
    data = attach_spec(_convert_tflite(int8=False), make_spec(), "tflite")
    return _write(tmp_path_factory.mktemp("tiny"), "tiny-fp32.tflite", data)


@pytest.fixture(scope="session")
def tiny_heatmap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float TFLite file with a heat map as its second output."""
    from edgecls.export.tflite import scores_first

    data = attach_spec(scores_first(_convert_tflite(int8=False, heatmap=True)), make_spec(heatmap=True), "tflite")
    return _write(tmp_path_factory.mktemp("tiny"), "tiny-heatmap.tflite", data)


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float ONNX, uint8 in; the same weights as the TFLite files."""
    return _write(tmp_path_factory.mktemp("tiny"), "tiny-fp32.onnx", attach_spec(_convert_onnx(), make_spec(), "onnx"))


@pytest.fixture(scope="session")
def labeled_by_onnx(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 images in the folders of the labels that the tiny ONNX file gives them: it is correct on all."""
    from edgecls.runtime.classifier import load

    root, rng = tmp_path_factory.mktemp("labeled"), np.random.default_rng(0)
    with load(tiny_onnx) as classifier:
        for number in range(90):
            levels = rng.integers(0, 256, (HEIGHT // 4, WIDTH // 2)).astype(np.uint8)
            image = np.kron(levels, np.ones((4, 2), np.uint8))
            folder = root / str(classifier.predict(image).label)
            folder.mkdir(exist_ok=True)
            Image.fromarray(image).save(folder / f"{number:02}.png")
    return root


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat dataset of three classes, 14 images each."""
    return make_once(tmp_path_factory, "tiny-data", lambda folder: make_data(folder / "images", 14)) / "images"


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Settings of a run of seconds, on a backbone whose random features are good enough for three easy classes."""
    weights = make_once(tmp_path_factory, "tiny-weights", save_backbone) / "backbone.weights.h5"
    return TrainConfig(
        image_size=SIZE,
        alpha=0.35,
        choose_blocks=False,
        weights=str(weights),
        schedule="cosine",
        epochs=10,
        effort="quick",
        augmented_copies=1,
        augment=AugmentConfig(flip="none", rotation=0),
        batch_size=8,
        learning_rate=3e-3,
        val_fraction=0.2,
        test_fraction=0.3,
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_data: Path, tiny_config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run; tests that change it take `run_copy`."""
    from edgecls.report.pictures import PICTURES
    from edgecls.training.train import train

    def make(folder: Path) -> None:
        train(tiny_data, folder / "run", tiny_config, pictures=PICTURES)

    return make_once(tmp_path_factory, "tiny-run", make) / "run"


@pytest.fixture(scope="session")
def tiny_export(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The run's four files, none rejected."""
    from edgecls.export.artifact import export_run

    def make(folder: Path) -> None:
        config = ExportConfig(precisions=("fp32", "int8"), max_drop=1)
        (folder / "result.pickle").write_bytes(pickle.dumps(export_run(tiny_run, config, out=folder / "export")))

    folder = make_once(tmp_path_factory, "tiny-export", make)
    result: ExportResult = pickle.loads((folder / "result.pickle").read_bytes())
    return result


@pytest.fixture
def run_copy(tiny_run: Path, tmp_path: Path) -> Path:
    """A run of the test's own, without exports."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture
def file_named(tiny_export: ExportResult) -> Callable[[str], Path]:
    """Finds an exported file by its name."""
    return lambda name: tiny_export.folder / name


@pytest.fixture(scope="session")
def converted_keras(tiny_run: Path, tiny_export: ExportResult) -> Converted:
    """The tiny run's network and its four graphs."""
    from edgecls.model_file.read import read_model_file
    from edgecls.training.run.run_folder import load_model

    graphs = {name: read_model_file(tiny_export.folder / f"model-{name}").graph for name in GRAPHS}
    return Converted(load_model(tiny_run), 128, graphs)


@pytest.fixture(scope="session")
def converted_torch(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """A random network that pads and normalizes as PyTorch does, and its four graphs."""
    from edgecls.export import onnx, tflite
    from edgecls.export.fuse import fuse

    model = random_network("torch", SIZE, 0.35, "flatten")

    def make(folder: Path) -> None:
        fused, calibration = fuse(model), diverse_images(48, SIZE, np.random.default_rng(1))
        in_blocks = fuse(model, in_blocks=True)
        fp32 = tflite.to_fp32(fused), onnx.to_fp32(fused)
        int8 = tflite.to_int8(in_blocks, calibration), onnx.to_int8(in_blocks, calibration)
        for name, graph in zip(GRAPHS, (*fp32, *int8), strict=True):
            (folder / name).write_bytes(graph)

    folder = make_once(tmp_path_factory, "converted-torch", make)
    return Converted(model, 114, {name: (folder / name).read_bytes() for name in GRAPHS})


# pytest keeps one value of a fixture with parameters, so each of the two has a fixture of its own, made once.
@pytest.fixture(params=["keras", "torch"])
def converted(request: pytest.FixtureRequest) -> Converted:
    """One of the two networks."""
    found: Converted = request.getfixturevalue(f"converted_{request.param}")
    return found


@pytest.fixture(scope="session")
def ignorant_graph() -> bytes:
    """TFLite graph of an untrained network that takes every image for the first class."""
    import keras
    import tensorflow as tf

    image = keras.Input((SIZE, SIZE, 1), batch_size=1, dtype="uint8", name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    scores = keras.layers.Dense(len(CLASSES), activation="softmax", kernel_initializer="zeros", name="scores")
    model = keras.Model(image, scores(x))
    scores.set_weights([scores.get_weights()[0], np.array([1, 0, 0], np.float32)])
    return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


@pytest.fixture
def int8(file_named: Callable[[str], Path]) -> Path:
    return file_named("model-int8.tflite")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """One picture of each class, in the order of `CLASSES`."""
    rng = np.random.default_rng(7)
    paths = [tmp_path / f"{name}.png" for name in CLASSES]
    for name, path in zip(CLASSES, paths, strict=True):
        Image.fromarray(draw(name, rng)).save(path)
    return paths


@pytest.fixture(scope="session")
def ray_pool_2() -> Iterator[RayPool]:
    """A real Ray cluster of this machine with two workers of one thread; starting it takes seconds."""
    from edgecls.parallel.ray import connect

    with pytest.MonkeyPatch.context() as patch:
        # Workers inherit it; what pytest adds to sys.path they do not know.
        folders = [str(Path(__file__).parent / "support"), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))
        with connect("local:2") as pool:
            yield pool


@pytest.fixture(scope="session")
def started_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BoardSshd]:
    with start_sshd(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture
def board(started_board: BoardSshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[BoardSshd]:
    """This machine behind an sshd of its own; a test that leaves something there fails."""
    started_board.reset()
    monkeypatch.setenv("PATH", f"{started_board.bin}:{os.environ['PATH']}")
    yield started_board
    started_board.wait_until_left()
