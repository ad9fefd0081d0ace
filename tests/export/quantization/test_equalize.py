"""Networks of other kinds than edgecls trains, as imported ones are."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from random_networks import core_scores, diverse_images

from edgecls.export.fuse import FusedModel
from edgecls.export.quantization.equalize import equalize


@pytest.mark.parametrize("per_tensor", [False, True])
def test_a_batch_norm_before_its_convolution_keeps_the_scores(per_tensor: bool) -> None:
    """Where several layers are added, BatchNorm stays a depthwise convolution of one pixel, as in ResNet50V2."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((12, 12, 1), batch_size=1)
    x = layers.Add()([layers.Conv2D(6, 3)(image), layers.Conv2D(6, 3, bias_initializer="random_normal")(image)])
    norm = layers.DepthwiseConv2D(1, depthwise_initializer="random_normal", bias_initializer="random_normal")
    x = layers.ReLU()(norm(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(x))
    check_same_scores(keras.Model(image, layers.Dense(3, activation="softmax")(x)), per_tensor=per_tensor)


def test_a_relu_that_begins_above_zero_is_not_scaled() -> None:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((12, 12, 1), batch_size=1)
    x = layers.ReLU(threshold=40.0)(layers.Conv2D(6, 3)(image))
    x = layers.ReLU()(layers.Conv2D(8, 1)(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 1)(x))
    check_same_scores(keras.Model(image, layers.Dense(3, activation="softmax")(x)))


def check_same_scores(core: keras.Model, *, per_tensor: bool = False) -> None:
    """Equalizing changes weights, and no score."""
    fused = FusedModel(core, 0.0)
    images = diverse_images(12, 12, np.random.default_rng(0))
    equalized = equalize(fused, images, per_tensor=per_tensor)
    expected = core_scores(fused, images)
    assert np.ptp(expected, axis=0).max() > 0.05
    np.testing.assert_allclose(core_scores(equalized, images), expected, atol=1e-4)
    changed = [np.any(a != b) for a, b in zip(equalized.core.get_weights(), fused.core.get_weights(), strict=True)]
    assert any(changed)
