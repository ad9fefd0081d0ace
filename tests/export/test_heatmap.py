from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny import make_spec

from edgecls.boards.targets import ANY, TARGETS
from edgecls.errors import ConfigError
from edgecls.export import onnx, tflite
from edgecls.export.fuse import FusedModel
from edgecls.export.heatmap import add_heatmap, check_heatmap
from edgecls.limits import Format
from edgecls.model_file.write import attach_spec
from edgecls.runtime.classifier import Classifier, load

SIZE, PATCH, GRAY = 64, 24, 128
LABELS = ("vertical", "horizontal", "checkered")


def draw_patches(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Noise with a patch of stripes or checkers: images, classes, and the top left corners of the patches."""
    random = np.random.default_rng(seed)
    images = random.normal(GRAY, 8, (count, SIZE, SIZE, 1))
    labels, corners = random.integers(0, len(LABELS), count), random.integers(0, SIZE - PATCH + 1, (count, 2))
    stripes = np.where(np.arange(PATCH) % 4 < 2, 1, -1)
    patches = (np.tile(stripes, (PATCH, 1)), np.tile(stripes, (PATCH, 1)).T, np.outer(stripes, stripes))
    for image, label, (top, left) in zip(images, labels, corners, strict=True):
        image[top : top + PATCH, left : left + PATCH, 0] += 70 * patches[label]
    return images.clip(0, 255).astype(np.uint8), labels, corners


def build(pool: str, hidden: int = 0) -> Any:
    """A network from centered images, as `fuse` returns one."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = x = keras.Input((SIZE, SIZE, 1), batch_size=1, name="centered_image")
    for i, filters in enumerate((8, 16, 16)):
        x = layers.Conv2D(filters, 5 if i == 0 else 3, strides=2, padding="same", name=f"conv_{i}")(x)
        x = layers.ReLU(6 if i else 255, name=f"relu_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x) if pool == "gap" else layers.Flatten(name="pool")(x)
    x = layers.Dense(hidden, activation="relu", name="hidden")(x) if hidden else x
    return keras.Model(image, layers.Dense(len(LABELS), activation="softmax", name="scores")(x))


@pytest.fixture(scope="module")
def trained() -> FusedModel:
    import keras

    core = build("gap")
    images, labels, _ = draw_patches(1200, 1)
    free = keras.Input((SIZE, SIZE, 1))
    model = keras.Model(free, core(free))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images.astype(np.float32) - GRAY, labels, batch_size=32, epochs=8, verbose=0)
    return FusedModel(core, GRAY)


def to_classifier(graph: bytes, kind: Format, precision: str, *, heatmap: bool) -> Classifier:
    spec = make_spec(
        labels=LABELS,
        height=SIZE,
        width=SIZE,
        precision=precision,
        input_zero_point=GRAY if precision == "int8" else 0,
        heatmap=heatmap,
    )
    return load(attach_spec(graph, spec, kind))


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_maximum_lies_on_the_patch_and_the_scores_stay_the_same(
    trained: FusedModel, kind: Format, precision: str
) -> None:
    module: Any = tflite if kind == "tflite" else onnx
    arguments = (draw_patches(64, 2)[0],) if precision == "int8" else ()
    convert = getattr(module, f"to_{precision}")
    plain = to_classifier(convert(trained, *arguments), kind, precision, heatmap=False)
    mapped = to_classifier(
        convert(add_heatmap(trained, draw_patches(64, 2)[0]), *arguments), kind, precision, heatmap=True
    )
    images, labels, corners = draw_patches(200, 3)
    on_patch = correct = 0
    for image, label, corner in zip(images, labels, corners, strict=True):
        expected, found = plain.predict(image), mapped.predict(image)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
        assert found.heatmap is not None and expected.heatmap is None
        assert found.heatmap.shape == (8, 8) and found.heatmap.dtype == np.float32
        correct += found.index == label
        enlarged = np.asarray(Image.fromarray(found.heatmap).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        place = np.array(np.unravel_index(enlarged.argmax(), enlarged.shape))
        on_patch += bool(((place >= corner) & (place < corner + PATCH)).all())
    # By chance, the maximum lies on the patch in one image of seven. This small network's map is coarse.
    assert correct >= 190 and on_patch >= 100, (correct, on_patch)


def test_the_logits_are_the_mean_of_the_map_beside_those_of_the_average_image() -> None:
    core, images = build("gap"), draw_patches(32, 4)[0]
    mapped = add_heatmap(FusedModel(core, GRAY), images).core
    inputs = images[:, None].astype(np.float32) - GRAY
    maps = np.concatenate([mapped(image)[1].numpy() for image in inputs])
    assert maps.shape == (32, 8, 8, 3)
    np.testing.assert_allclose(maps.sum(-1), 0, atol=1e-4)
    np.testing.assert_allclose(maps.mean(0), 0, atol=1e-4)
    logits = np.concatenate([np.log(mapped(image)[0].numpy()) for image in inputs])
    centered = logits - logits.mean(1, keepdims=True)
    np.testing.assert_allclose(maps.mean((1, 2)), centered - centered.mean(0), atol=1e-4)


def test_other_networks_are_refused_with_the_reason() -> None:
    import keras
    from keras import layers

    with pytest.raises(ConfigError, match="the dense layer 'hidden' lies between"):
        check_heatmap(build("gap", hidden=4), ANY)
    with pytest.raises(ConfigError, match="flattens its features; train with --head gap"):
        check_heatmap(build("flatten"), ANY)
    image = keras.Input((SIZE, SIZE, 1), batch_size=1)
    pooled = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    with pytest.raises(ConfigError, match="64 x 64 positions"):
        check_heatmap(keras.Model(image, layers.Dense(2, activation="softmax")(pooled)), ANY)
    with pytest.raises(ConfigError, match="for an NPU have no heat map"):
        check_heatmap(build("gap"), TARGETS["coral"])
