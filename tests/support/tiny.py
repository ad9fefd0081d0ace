"""A tiny network's metadata and a tiny data set of three classes that any network tells apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from random_networks import calibrate, diverse_images

from edgecls.images.decode import RESAMPLE
from edgecls.model_file.metadata import ModelSpec

HEIGHT, WIDTH, LABELS = 12, 10, ("bolt", "nut", "Mutter ä")


def make_spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "labels": LABELS,
        "height": HEIGHT,
        "width": WIDTH,
        "resample": RESAMPLE,
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


def build_network(dtype: str) -> Any:
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


CLASSES = ("bright", "dark", "striped")
SIZE = 32


def draw(name: str, rng: np.random.Generator, shape: tuple[int, int] = (36, 40)) -> np.ndarray:
    """A picture of one of three classes that any network tells apart: uint8 (36, 40)."""
    picture = rng.integers(20, 24, shape)
    if name == "bright":
        picture += 190
    if name == "striped":
        picture[:, ::4] += 190
    return picture.astype(np.uint8)


def make_data(root: Path, count: int) -> Path:
    """Class folders with `count` images each; the first three are of the kinds that pixel paths differ on."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        folder = root / name
        folder.mkdir(parents=True)
        for i in range(3, count):
            Image.fromarray(draw(name, rng)).save(folder / f"{i:02}.png")
        color = np.stack([draw(name, rng, (61, 47)) for _ in range(3)], -1)
        color[:9, :9] = (200, 30, 90)
        Image.fromarray(color).save(folder / "00-odd-rgb.png")
        deep = draw(name, rng, (45, 33)).astype(np.uint16) * 257 + rng.integers(0, 200, (45, 33)).astype(np.uint16)
        Image.fromarray(deep).save(folder / "01-deep.png")
        turned = Image.fromarray(color[:50])
        exif = turned.getexif()
        exif[ExifTags.Base.Orientation] = 6
        turned.save(folder / "02-turned.jpg", exif=exif, quality=95)
    return root


@dataclass(frozen=True)
class Converted:
    """A network and what the converters made of it; `graphs` holds "fp32.tflite", "int8.onnx" and so on."""

    model: Any
    pad_gray: int
    graphs: dict[str, bytes]


def save_backbone(folder: Path) -> None:
    """Write backbone.weights.h5 into a folder: a random MobileNetV2 whose features are good for three easy classes."""
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    backbone = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None)
    images = np.repeat(diverse_images(96, SIZE, rng), 3, -1) / np.float32(127.5) - 1
    calibrate(backbone, images, rng)
    backbone.save_weights(folder / "backbone.weights.h5")
