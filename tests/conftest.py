"""One tiny untrained network, exported with its contract in all the kinds that the runtime reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecls.spec import ModelSpec, attach_spec

HEIGHT, WIDTH, LABELS = 12, 10, ("bolt", "nut", "Mutter ä")


def make_spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "labels": LABELS,
        "height": HEIGHT,
        "width": WIDTH,
        "resample": "bilinear-antialias",
        "luma": "itu-r-601",
        "precision": "fp32",
        "input_dtype": "uint8",
        "input_scale": 1.0,
        "input_zero_point": 0,
        "arch": "tiny",
        "weights": {"source": "none", "sha256": None},
        "metrics": {"accuracy": 0.5, "images": 4},
        "train_sha256": hashlib.sha256(b"train").hexdigest(),
        "calibration_sha256": None,
        "versions": {"edgecls": "0.1.0"},
        "created": "2025-01-01T00:00:00+00:00",
    }
    return ModelSpec(**{**values, **changes})


def _build_network(dtype: str) -> Any:
    import keras

    layers = keras.layers
    # Named, because Keras numbers unnamed layers by what the process built before.
    image = keras.Input((HEIGHT, WIDTH, 1), batch_size=1, dtype=dtype, name="image")
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    network = keras.Model(image, layers.Dense(len(LABELS), activation="softmax", name="scores")(x))
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 1, w.shape).astype(np.float32) for w in network.get_weights()])
    return network


def _calibration() -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(1)
    yield [np.zeros((1, HEIGHT, WIDTH, 1), np.float32)]
    yield [np.full((1, HEIGHT, WIDTH, 1), 255, np.float32)]
    for _ in range(30):
        yield [rng.integers(0, 256, (1, HEIGHT, WIDTH, 1)).astype(np.float32)]


def _convert_tflite(int8: bool) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(_build_network("float32" if int8 else "uint8"))
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
    model, _ = tf2onnx.convert.from_keras(_build_network("uint8"), signature, opset=17)
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
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float ONNX, uint8 in; the same weights as the TFLite files."""
    return _write(tmp_path_factory.mktemp("tiny"), "tiny-fp32.onnx", attach_spec(_convert_onnx(), make_spec(), "onnx"))
