"""Small networks without pretrained weights, and the layers that the heads of all networks share.

Every layer has its own name, and every random layer its own seed, derived from the run's.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from edgecls.config import TrainConfig

if TYPE_CHECKING:
    import keras

# The image is centered and divided by this, so that it spans about -1..1 (Glorot's assumption).
PIXEL_SCALE = 127.5
# The gray that small networks center the image on: a whole number, so that a raw pixel can be a quantized input.
MID_GRAY = 128
# Keras' default of 0.99 needs some 500 steps to forget its start; a small data set has a few dozen in an epoch.
BATCH_NORM_MOMENTUM = 0.9


def build_cnn(config: TrainConfig, class_count: int) -> keras.Model:
    """Return an untrained convolutional network: uint8 (N, S, S, 1), 0..255 -> scores (N, C), sum to 1.

    For each of `config.filters`: convolution without padding, ReLU, dropout and max pooling; then Flatten, the dense
    layers of `config.hidden_units` and the classifier.
    """
    import keras
    from keras import layers

    image = keras.Input((config.image_size, config.image_size, 1), dtype="uint8", name="image")
    x = center(MID_GRAY)(image)
    for i, filters in enumerate(config.filters, 1):
        start = keras.initializers.HeNormal(_seed(config, f"conv_{i}"))
        x = layers.Conv2D(filters, config.kernel, activation="relu", kernel_initializer=start, name=f"conv_{i}")(x)
        x = _drop(x, config, config.conv_dropout, f"conv_{i}_dropout")
        x = layers.MaxPooling2D(2, name=f"pool_{i}")(x)
    x = layers.Flatten(name="flatten")(x)
    for i, units in enumerate(config.hidden_units, 1):
        x = rectified(x, config, units, f"hidden_{i}")
    return keras.Model(image, classify(x, config, class_count), name="cnn")


def build_mlp(config: TrainConfig, class_count: int) -> keras.Model:
    """Return an untrained network of dense layers alone: uint8 (N, S, S, 1), 0..255 -> scores (N, C), sum to 1.

    Flatten, then the layers of `config.hidden_units`, each with dropout, and the classifier.
    """
    import keras
    from keras import layers

    image = keras.Input((config.image_size, config.image_size, 1), dtype="uint8", name="image")
    x = layers.Flatten(name="flatten")(center(MID_GRAY)(image))
    for i, units in enumerate(config.hidden_units, 1):
        x = rectified(x, config, units, f"hidden_{i}")
        x = _drop(x, config, config.hidden_dropout, f"hidden_{i}_dropout")
    return keras.Model(image, classify(x, config, class_count), name="mlp")


def center(gray: int) -> keras.layers.Layer:
    """Return the layer from pixels 0..255 to about -1..1, where `gray` becomes zero."""
    from keras import layers

    return layers.Rescaling(1 / PIXEL_SCALE, offset=-gray / PIXEL_SCALE, name="center")


def rectified(x: keras.KerasTensor, config: TrainConfig, units: int, name: str) -> keras.KerasTensor:
    """Return what a dense layer with ReLU gives, (N, units); its weights begin by He's rule (arXiv:1502.01852)."""
    import keras

    start = keras.initializers.HeNormal(_seed(config, name))
    return keras.layers.Dense(units, activation="relu", kernel_initializer=start, name=name)(x)


def classify(x: keras.KerasTensor, config: TrainConfig, class_count: int) -> keras.KerasTensor:
    """Return the scores (N, C): normalization and dropout if configured, then softmax.

    No ReLU follows, so the weights are drawn by Glorot's rule (AISTATS 2010), not He's.
    """
    import keras
    from keras import layers

    if config.batch_norm:
        x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="batch_norm")(x)
    x = _drop(x, config, config.dropout, "dropout")
    start = keras.initializers.GlorotUniform(_seed(config, "scores"))
    return layers.Dense(class_count, activation="softmax", kernel_initializer=start, name="scores")(x)


def _drop(x: keras.KerasTensor, config: TrainConfig, fraction: float, name: str) -> keras.KerasTensor:
    from keras import layers

    return layers.Dropout(fraction, seed=_seed(config, name), name=name)(x) if fraction else x


def _seed(config: TrainConfig, name: str) -> int:
    """Return the seed of one layer; with a common seed, layers of the same shape would start alike."""
    return (config.seed + zlib.crc32(name.encode())) % 2**31
