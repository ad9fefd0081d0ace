"""The networks. One input contract for all: the gray image itself, uint8 (N, S, S, 1), 0..255; softmax scores out.

Imports TensorFlow (through Keras) inside its functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgecls.config import TrainConfig
from edgecls.training.weights import Normalization, Weights, load_into

if TYPE_CHECKING:
    import keras

FEATURES_LAYER = "features"
# The image is centred on the padding gray and divided by this, so that it spans about -1..1 (Glorot's assumption).
PIXEL_SCALE = 127.5


def build_mobilenet_v2(config: TrainConfig, class_count: int, weights: Weights) -> keras.Model:
    """Return the untrained classifier: gray image -> gray_to_rgb -> frozen MobileNetV2 -> head.

    At step 0 the backbone sees what it was trained on: gray_to_rgb copies the pixel to three channels with each
    channel's own normalization. The image is padded once, with the gray that the backbone takes for nothing, and
    both following convolutions are valid: only so do they fold exactly into one when the model is exported.

    The layer `FEATURES_LAYER` is where the frozen part ends.
    """
    import keras
    from keras import layers

    normalization = weights.normalization
    size = config.image_size
    before, after = _stem_padding(size, weights.symmetric_padding)
    image = keras.Input((size, size, 1), dtype="uint8", name="image")
    gray = normalization.pad_gray
    x = layers.Rescaling(1 / PIXEL_SCALE, offset=-gray / PIXEL_SCALE, name="center")(image)
    around = (1 + before, 1 + after)
    x = layers.ZeroPadding2D((around, around), name="pad_image")(x)
    gray_to_rgb = layers.Conv2D(3, 3, padding="valid", name="gray_to_rgb")
    x = gray_to_rgb(x)
    gray_to_rgb.set_weights(_copy_to_rgb(normalization))
    x = _backbone(x, config, weights)
    x = _head(x, config, class_count)
    model = keras.Model(image, x, name="mobilenet_v2")
    freeze_features(model)
    return model


def freeze_features(model: keras.Model) -> None:
    """Freezes every layer up to and including `FEATURES_LAYER`; frozen BatchNorm runs in inference mode."""
    last = model.layers.index(model.get_layer(FEATURES_LAYER))
    for position, layer in enumerate(model.layers):
        layer.trainable = position > last


def split_at_features(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Return (frozen part: image -> features, head: features -> scores); both share the model's layers."""
    import keras

    features = model.get_layer(FEATURES_LAYER)
    trunk = keras.Model(model.input, features.output, name="trunk")
    x = head_input = keras.Input(features.output.shape[1:], name="features_in")
    for layer in model.layers[model.layers.index(features) + 1 :]:
        x = layer(x)
    return trunk, keras.Model(head_input, x, name="head")


def _stem_padding(size: int, symmetric: bool) -> tuple[int, int]:
    """Return the stem convolution's padding before and after: that of keras.applications or of PyTorch."""
    return (1, 1) if symmetric or size % 2 else (0, 1)


def _copy_to_rgb(normalization: Normalization) -> list[np.ndarray]:
    """Return kernel (3, 3, 1, 3) and bias (3,) that turn the centred gray pixel into the backbone's own RGB input."""
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    kernel = np.zeros((3, 3, 1, 3), np.float32)
    kernel[1, 1, 0] = PIXEL_SCALE / std
    return [kernel, (normalization.pad_gray - mean) / std]


def _backbone(x: keras.KerasTensor, config: TrainConfig, weights: Weights) -> keras.KerasTensor:
    """Return the last feature map of keras.applications' MobileNetV2 laid onto `x`, which is already padded."""
    import keras

    size = config.image_size
    original = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=config.alpha, include_top=False, weights=None
    )

    def adjust(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        if layer.name == "Conv1":
            settings["padding"] = "valid"
        elif weights.symmetric_padding and isinstance(layer, keras.layers.ZeroPadding2D):
            settings["padding"] = ((1, 1), (1, 1))
        return type(layer).from_config(settings)

    outputs: list[keras.KerasTensor] = []

    def call(layer: keras.layers.Layer, *args: object, **kwargs: object) -> keras.KerasTensor:
        outputs.append(layer(*args, **kwargs))
        return outputs[-1]

    if weights.path is None:
        _initialize(original, config.seed)
    load_into(original, weights)
    # The clone itself gets inputs of its own; the tensors that its layers gave on `x` are what connects to the image.
    backbone = keras.models.clone_model(original, input_tensors=x, clone_function=adjust, call_function=call)
    backbone.set_weights(original.get_weights())
    return outputs[-1]


def _initialize(backbone: keras.Model, seed: int) -> None:
    """Fill the kernels by He's rule (arXiv:1502.01852), a variance of 2 / inputs.

    With Keras' own start (Glorot) and BatchNorm frozen, features shrink to 1e-11: no head could learn from them.
    """
    import keras

    random = np.random.default_rng(seed)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D):
            shape = layer.kernel.shape
            # (3, 3, channels, 1) of a depthwise kernel: every output sees one channel.
            inputs = np.prod(shape[:2] if isinstance(layer, keras.layers.DepthwiseConv2D) else shape[:3])
            layer.set_weights([random.normal(0, np.sqrt(2 / inputs), shape)])


def _head(x: keras.KerasTensor, config: TrainConfig, class_count: int) -> keras.KerasTensor:
    from keras import layers

    if config.head == "gap":
        x = layers.GlobalAveragePooling2D(name=FEATURES_LAYER)(x)
    else:
        x = layers.Flatten(name=FEATURES_LAYER)(x)
        x = layers.Dense(32, activation="relu", kernel_initializer="he_normal", name="hidden")(x)
    if config.dropout:
        x = layers.Dropout(config.dropout, seed=config.seed, name="dropout")(x)
    return layers.Dense(class_count, activation="softmax", name="scores")(x)
