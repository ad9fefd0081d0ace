"""What is wrong with a model or its images is found on networks that were trained, not only on made-up scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecls.errors import DataError
from edgecls.imported.measure import ImportConfig
from edgecls.imported.run import ImportResult, import_model
from edgecls.imported.scaling import parse_scaling

SIZE, EACH = 12, 160
GRAYS = {"bright": 170, "dark": 80, "medium": 125}


def draw(name: str, rng: np.random.Generator) -> np.ndarray:
    gray = GRAYS[name] + rng.normal(0, 14)
    return np.asarray((gray + rng.normal(0, 20, (SIZE, SIZE))).clip(0, 255), np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("trained") / "photos", np.random.default_rng(0)
    for name in GRAYS:
        (root / name).mkdir(parents=True)
        for number in range(EACH):
            Image.fromarray(draw(name, rng)).save(root / name / f"{number:03}.png")
    return root


def train(path: Path, scaling: str, order: Callable[[list[str]], list[str]] = sorted, last: str = "softmax") -> Path:
    """Train a network of RGB images on other images of the same kind, with the classes in the given order."""
    import keras

    keras.utils.set_random_seed(0)
    rng, names = np.random.default_rng(1), order(list(GRAYS))
    labels = np.arange(600) % len(names)
    images = np.stack([draw(names[label], rng) for label in labels])[..., None]
    layers, units = keras.layers, 1 if last == "sigmoid" else len(names)
    normalization = layers.BatchNormalization(momentum=0.9)
    stack = [layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), normalization]
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), *stack, layers.Dense(units, activation=last)])
    loss = "binary_crossentropy" if last == "sigmoid" else "sparse_categorical_crossentropy"
    # A learning rate that ends at zero: with a constant one, how well the last epoch is depends on the processor.
    epochs, batch_size = 25, 32
    steps = -(-len(images) // batch_size)
    decay = keras.optimizers.schedules.CosineDecay(2e-2, epochs * steps)
    # An epoch in one call gives the same weights in less time.
    model.compile(keras.optimizers.Adam(decay), loss, steps_per_execution=steps)
    model.fit(parse_scaling(scaling, 3).apply(images, 3), labels, batch_size, epochs, verbose=0)
    model.save(path)
    return path


def bring(model: Path, photos: Path, **settings: Any) -> ImportResult:
    return import_model(model, photos, model.parent / "run", ImportConfig(**settings))


@pytest.mark.parametrize("scaling", ["mean-bgr", "mean-rgb", "imagenet-rgb", "0..1"])
def test_the_scaling_and_the_order_of_channels_are_found(scaling: str, photos: Path, tmp_path: Path) -> None:
    result = bring(train(tmp_path / "model.keras", scaling), photos)
    assert result.measured.scaling.name == scaling
    assert result.record["metrics"]["test_accuracy"] > 0.8
    assert not any("scaling" in warning for warning in result.record["warnings"])


def test_another_scaling_that_the_user_gives_is_a_warning(photos: Path, tmp_path: Path) -> None:
    model = train(tmp_path / "model.keras", "mean-bgr")
    result = bring(model, photos, scaling="mean-rgb", classes=",".join(sorted(GRAYS)))
    assert "give --scaling mean-bgr" in result.record["warnings"][0]


def test_reversed_classes_are_found(photos: Path, tmp_path: Path) -> None:
    model = train(tmp_path / "model.keras", "-1..1", order=lambda names: sorted(names)[::-1])
    with pytest.raises(DataError, match="in another order.*--classes medium,dark,bright"):
        bring(model, photos)
    assert bring(model, photos, classes="medium,dark,bright").record["metrics"]["test_accuracy"] > 0.8


def test_a_model_of_other_classes_is_refused(photos: Path, tmp_path: Path) -> None:
    """Its classes are the parts of the image where a bright spot is."""
    import keras

    rng, labels = np.random.default_rng(2), np.arange(600) % 3
    images = rng.normal(110, 20, (600, SIZE, SIZE, 1))
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 60
    layers = keras.layers
    model = keras.Sequential([keras.Input((SIZE, SIZE, 1)), layers.Rescaling(1 / 255), layers.Flatten()])
    model.add(layers.Dense(3, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images.clip(0, 255), labels, epochs=10, verbose=0)
    model.save(tmp_path / "model.keras")
    with pytest.raises(DataError, match="trained on other classes"):
        bring(tmp_path / "model.keras", photos)


def test_a_model_of_fewer_classes_is_refused(photos: Path, tmp_path: Path) -> None:
    model = train(tmp_path / "model.keras", "-1..1", order=lambda names: sorted(names)[:2])
    with pytest.raises(DataError, match="tells 2 classes apart, and the data has 3 class folders"):
        bring(model, photos)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_sigmoids_order_is_found(is_reversed: bool, photos: Path, tmp_path: Path) -> None:
    import shutil

    for name in ("bright", "dark"):
        shutil.copytree(photos / name, tmp_path / "two" / name)

    def order(_: list[str]) -> list[str]:
        return ["dark", "bright"] if is_reversed else ["bright", "dark"]

    model = train(tmp_path / "model.keras", "0..1", order, last="sigmoid")
    if not is_reversed:
        assert bring(model, tmp_path / "two", scaling="0..1").record["metrics"]["test_accuracy"] > 0.9
        return
    with pytest.raises(DataError, match="--classes dark,bright"):
        bring(model, tmp_path / "two", scaling="0..1")
