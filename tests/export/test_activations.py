"""TFLite files of networks whose activations have an exponential inside."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras_models import settle
from random_networks import diverse_images
from tflite_graphs import run
from tiny import SIZE

from edgecls.export import tflite
from edgecls.export.activations import bounded
from edgecls.export.fuse import FusedModel


def network(activation: str) -> Any:
    """A network with features up to 50."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 1), batch_size=1)
    x = layers.Conv2D(12, 3, 2, activation=activation)(layers.Rescaling(0.25)(image))
    x = layers.Activation(activation)(layers.Conv2D(12, 3, 2)(x))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(12, 3, activation=activation)(x))
    model = keras.Model(image, layers.Dense(3, "softmax")(x))
    settle(model, "0..255")
    return model


@pytest.mark.parametrize("activation", ["softplus", "mish", "selu"])
def test_int8_scores_are_those_of_the_network(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = network(activation), diverse_images(24, SIZE, np.random.default_rng(1))
    fused = FusedModel(model, 0.0)
    wanted = model.predict(images, batch_size=1, verbose=0)
    np.testing.assert_allclose(bounded(model).predict(images, batch_size=1, verbose=0), wanted, atol=1e-5)

    def error() -> float:
        return float(np.abs(run(tflite.to_int8(fused, images), images)[0] - wanted).mean())

    assert error() < 0.03
    # As TensorFlow writes it.
    monkeypatch.setattr(tflite, "bounded", lambda core: core)
    assert error() > 0.06


def test_float_scores_are_finite_where_the_exponential_is_not() -> None:
    images = diverse_images(4, SIZE, np.random.default_rng(1))
    image = keras.Input((SIZE, SIZE, 1), batch_size=1)
    x = keras.layers.Activation("softplus")(keras.layers.Flatten()(image))
    model = keras.Model(image, keras.layers.Dense(3, "softmax", kernel_initializer="ones")(x))
    scores, _, _ = run(tflite.to_fp32(FusedModel(model, 0.0)), images)
    np.testing.assert_allclose(scores, 1 / 3, atol=1e-5)


def test_other_networks_stay_as_they_are() -> None:
    model = network("relu")
    assert bounded(model) is model
