"""Keras model files from elsewhere whose configuration is odd: built, or refused by our error in one line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cases import fuzz, ran
from hypothesis import given
from mutations import odd_documents

from edgecls.errors import EdgeclsError
from edgecls.imported.build import build_float, read_source
from edgecls.imported.graph import read_graph
from edgecls.imported.model_file import open_model


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The parts of a .keras file with a nested model, operations, two branches and most kinds of layers."""
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.RandomFlip()(image[..., ::-1] / 127.5 - 1)
    x = layers.BatchNormalization()(layers.ZeroPadding2D(1)(x))
    inner = keras.Sequential([keras.Input((10, 10, 3)), layers.SeparableConv2D(4, 3, activation="swish")])
    x = inner(layers.Normalization(mean=[0.0] * 3, variance=[1.0] * 3)(x))
    x = layers.Concatenate()([layers.MaxPooling2D()(x), layers.AveragePooling2D(2)(layers.LeakyReLU()(x))])
    x = layers.Dense(3, activation="softmax")(layers.Dropout(0.1)(layers.Flatten()(x)))
    path = tmp_path_factory.mktemp("fuzz") / "model.keras"
    keras.Model(image, x).save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_configurations(members: dict[str, bytes], tmp_path: Path) -> None:
    good, path = json.loads(members["config.json"]), tmp_path / "model.keras"
    built = 0

    @fuzz(500)
    @given(odd_documents(good))
    def run(config: Any) -> None:
        nonlocal built
        ran["imported"] += 1
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in (members | {"config.json": json.dumps(config).encode()}).items():
                archive.writestr(name, data)
        try:
            with open_model(path) as file:
                source = read_source(file, read_graph(file.config, keras_2=file.keras_2))
            build_float(source, source.image_size or 8)
            built += 1
        except EdgeclsError as error:
            assert "\n" not in str(error)

    run()
    assert built
