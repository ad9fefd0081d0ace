"""Float files of imported networks give the scores of the Keras model, at the borders too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from keras_models import APPLICATIONS, application, notebook_model, settle, unusual_model
from random_networks import diverse_images

from edgecls.export import onnx, tflite
from edgecls.export.fuse_imported import fuse_imported
from edgecls.imported.build import build_network, read_source
from edgecls.imported.graph import read_graph
from edgecls.imported.model_file import open_model
from edgecls.imported.scaling import parse_scaling

TOLERANCE = 1e-4


def read(path: Path) -> Any:
    with open_model(path) as file:
        return read_source(file, read_graph(file.config, keras_2=file.keras_2))


def run_files(fused: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tflite.to_fp32(fused))
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    session = onnxruntime.InferenceSession(onnx.to_fp32(fused))
    scores: dict[str, list[np.ndarray]] = {"tflite": [], "onnx": []}
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        scores["tflite"].append(interpreter.get_tensor(result)[0])
        scores["onnx"].append(session.run(None, {"image": image[None]})[0][0])
    return {kind: np.array(rows) for kind, rows in scores.items()}


def check(model: Any, scaling: str, folder: Path, size: int = 32) -> None:
    """The run's network and both float files give what the Keras model gives for scaled images."""
    model.save(folder / "model.keras")
    source = read(folder / "model.keras")
    images = diverse_images(6, size, np.random.default_rng(3))
    images[0, :, :3] = 255
    found = parse_scaling(scaling, source.channels)
    shape = (len(images), *(side or size for side in model.input_shape[1:]))
    expected = model.predict(found.apply(images, source.channels).reshape(shape), verbose=0)
    assert expected.std(0).max() > 0.05
    network = build_network(source, size, found)
    assert np.abs(network.predict(images, verbose=0) - expected).max() < TOLERANCE
    for kind, scores in run_files(fuse_imported(network, whole_gray=False), images).items():
        assert np.abs(scores - expected).max() < TOLERANCE, kind


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_files_of_keras_applications_give_the_same_scores(name: str, tmp_path: Path) -> None:
    check(application(name), APPLICATIONS[name][0], tmp_path)


@pytest.mark.parametrize(("channels", "scaling"), [(1, "-1..1"), (3, "imagenet-rgb")])
def test_files_of_a_notebooks_model_give_the_same_scores(channels: int, scaling: str, tmp_path: Path) -> None:
    model = notebook_model(channels)
    settle(model, scaling)
    check(model, scaling, tmp_path)


def test_files_of_unusual_layers_give_the_same_scores(tmp_path: Path) -> None:
    model = unusual_model()
    settle(model, "0..255", size=32)
    check(model, "0..255", tmp_path)


def test_a_logit_becomes_two_scores_in_the_last_layer(tmp_path: Path) -> None:
    """In int8 files the last layer stays float; another one before it would be rounded."""
    model = notebook_model(last="sigmoid", classes=1)
    settle(model, "0..1")
    model.save(tmp_path / "model.keras")
    network = build_network(read(tmp_path / "model.keras"), 32, parse_scaling("0..1", 1))
    fused = fuse_imported(network, whole_gray=False)
    assert [layer.units for layer in fused.core.layers if hasattr(layer, "units")] == [2]
    images = diverse_images(6, 32, np.random.default_rng(3))
    positive = model.predict(images / np.float32(255), verbose=0)[:, 0]
    for scores in run_files(fused, images).values():
        assert np.abs(scores - np.stack([1 - positive, positive], 1)).max() < TOLERANCE


def test_lecture_networks_give_the_same_scores(tmp_path: Path) -> None:
    """Flatten on the raw image, and a 3x3 convolution from gray to RGB before a nested network."""
    import keras

    layers = keras.layers
    dense = keras.Sequential(
        [keras.Input((32, 32)), layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(3, "softmax")]
    )
    backbone = keras.Sequential([keras.Input((32, 32, 3)), layers.Conv2D(8, 3, 2, "same", activation="relu")])
    transfer = [layers.Rescaling(1 / 255), layers.Conv2D(3, 3, padding="same"), backbone, layers.Flatten()]
    transfer = keras.Sequential([keras.Input((32, 32, 1)), *transfer, layers.Dense(3, "softmax")])
    settle_last(dense, 1 / 255)
    check(dense, "0..1", tmp_path)
    settle_last(transfer, 1.0)
    check(transfer, "0..255", tmp_path)


def settle_last(model: Any, scale: float) -> None:
    images = diverse_images(16, 32, np.random.default_rng(0)).reshape(16, *model.input_shape[1:]) * np.float32(scale)
    kernel, bias = model.layers[-1].get_weights()
    for layer in model.layers[:-1]:
        images = layer(images)
    logits = np.asarray(images) @ kernel
    model.layers[-1].set_weights([kernel * 2 / logits.std(0), bias - 2 * logits.mean(0) / logits.std(0)])


def test_the_gray_that_is_padded_matters_and_is_whole_in_int8(tmp_path: Path) -> None:
    """Zero is between two gray values: float files keep it, and the comparison above notices another one."""
    model = notebook_model()
    settle(model, "-1..1")
    model.save(tmp_path / "model.keras")
    network = build_network(read(tmp_path / "model.keras"), 32, parse_scaling("-1..1", 1))
    exact, whole = (fuse_imported(network, whole_gray=value) for value in (False, True))
    assert (exact.pad_gray, whole.pad_gray) == (127.5, 128)
    images = diverse_images(6, 32, np.random.default_rng(3)).astype(np.float32)

    def scores(fused: Any, pad_gray: float) -> np.ndarray:
        return np.concatenate([fused.core(image[None] - pad_gray) for image in images])

    wanted = scores(exact, 127.5)
    assert 0 < np.abs(scores(whole, 128) - wanted).max() < 0.01
    assert np.abs(scores(exact, 0) - wanted).max() > 100 * TOLERANCE
