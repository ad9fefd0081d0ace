"""Networks of keras.applications, trained on gray or on RGB images, give the same scores once they are exported."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import APPLICATIONS, application, scaling_of

from edgecls.config import ExportConfig
from edgecls.demo import unpack_demo_data
from edgecls.export.artifact import export_run
from edgecls.images.dataset import Dataset, load_dataset
from edgecls.imported.measure import ImportConfig
from edgecls.imported.run import import_model
from edgecls.imported.scaling import parse_scaling
from edgecls.runtime.classifier import load

SIZE, TOLERANCE = 32, 1e-4
CLASSES = ("bag", "sneaker", "trouser")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images of three classes that are easily told apart."""
    root = tmp_path_factory.mktemp("applications")
    images = unpack_demo_data(root / "demo")
    for part in ("train", "test"):
        for name in CLASSES:
            shutil.copytree(images / part / name, root / "photos" / part / name)
    return root / "photos"


@pytest.fixture(scope="module")
def dataset(photos: Path) -> Dataset:
    return load_dataset(photos, SIZE, val_fraction=0.15, test_fraction=0.15, seed=0)


def train(name: str, channels: int, dataset: Dataset) -> Any:
    """Return the network after a few epochs, which is enough for these classes."""
    import keras

    model = application(name, SIZE, len(CLASSES), channels)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.7  # for so few batches
    # VGG16 has no BatchNorm: a larger rate leaves it at chance.
    model.compile(keras.optimizers.Adam(1e-4 if name == "VGG16" else 1e-3), "sparse_categorical_crossentropy")
    scaled = parse_scaling(scaling_of(name, channels), channels).apply(dataset.train.images, channels)
    model.fit(scaled, dataset.train.labels, batch_size=16, epochs=4, verbose=0)
    return model


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", APPLICATIONS)
def test_imported_and_exported_files_equal_the_keras_model(
    name: str, channels: int, dataset: Dataset, photos: Path, tmp_path: Path
) -> None:
    model = train(name, channels, dataset)
    model.save(tmp_path / "model.keras")
    scaling = scaling_of(name, channels)
    assert dataset.test is not None
    scaled = parse_scaling(scaling, channels).apply(dataset.test.images, channels)
    expected = model.predict(scaled, verbose=0)
    assert (expected.argmax(1) == dataset.test.labels).mean() > 0.6
    import_model(tmp_path / "model.keras", photos, tmp_path / "run", ImportConfig(scaling=scaling))
    exported = export_run(tmp_path / "run", ExportConfig())
    assert {file.format for file in exported.files} == {"tflite", "onnx"}
    for file in exported.files:
        with load(exported.folder / file.path) as classifier:
            scores = classifier.scores(dataset.test.images)
        assert np.abs(scores - expected).max() < TOLERANCE, file.format
