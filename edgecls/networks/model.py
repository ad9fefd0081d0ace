"""The networks. All take gray images, uint8 (N, S, S, 1), 0..255, and return softmax scores.

TensorFlow (through Keras) is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from edgecls.config import TrainConfig
from edgecls.networks.small_networks import PIXEL_SCALE, build_cnn, build_mlp, center, classify, rectified
from edgecls.networks.weights import Normalization, Weights, load_into

if TYPE_CHECKING:
    import keras

FEATURES_LAYER = "features"


def build_model(config: TrainConfig, class_count: int, weights: Weights | None) -> keras.Model:
    """Return the untrained network that `config.arch` names.

    Args:
        config: of the run.
        class_count: number of scores.
        weights: of the backbone; only mobilenet_v2 has one.
    """
    if config.arch == "cnn":
        return build_cnn(config, class_count)
    if config.arch == "mlp":
        return build_mlp(config, class_count)
    assert weights is not None, "mobilenet_v2 has a backbone"
    return build_mobilenet_v2(config, class_count, weights)


def build_mobilenet_v2(config: TrainConfig, class_count: int, weights: Weights) -> keras.Model:
    """Return the untrained classifier: gray image -> gray_to_rgb -> frozen MobileNetV2 -> head.

    The frozen layers end with `FEATURES_LAYER`. A random gray_to_rgb learns from the first step on, because its output
    means nothing to the backbone.
    """
    import keras

    size = config.image_size
    image = keras.Input((size, size, 1), dtype="uint8", name="image")
    random = config.gray_to_rgb == "random"
    x = _random_to_rgb(image, config, weights) if random else _copy_to_rgb(image, config, weights)
    x = _backbone(x, config, weights)
    x = _head(x, config, class_count)
    model = keras.Model(image, x, name="mobilenet_v2")
    freeze_features(model)
    model.get_layer("gray_to_rgb").trainable = random
    return model


def freeze_features(model: keras.Model) -> None:
    """Freeze every layer up to and including `FEATURES_LAYER`; frozen BatchNorm runs in inference mode."""
    last = model.layers.index(model.get_layer(FEATURES_LAYER))
    for position, layer in enumerate(model.layers):
        layer.trainable = position > last


def _stem_padding(size: int, symmetric: bool) -> tuple[int, int]:
    """Return the stem convolution's padding before and after: that of keras.applications or of PyTorch."""
    return (1, 1) if symmetric or size % 2 else (0, 1)


def _copy_to_rgb(image: keras.KerasTensor, config: TrainConfig, weights: Weights) -> keras.KerasTensor:
    """Return what the backbone was trained on: the pixel in three channels with each channel's own normalization.

    The image is padded once, with the gray that normalization turns into zero, and both following convolutions are
    valid: otherwise they could not be folded exactly into one when the model is exported.
    """
    from keras import layers

    before, after = _stem_padding(config.image_size, weights.symmetric_padding)
    around = (1 + before, 1 + after)
    x = layers.ZeroPadding2D((around, around), name="pad_image")(center(weights.normalization.pad_gray)(image))
    gray_to_rgb = layers.Conv2D(3, 3, padding="valid", name="gray_to_rgb")
    x = gray_to_rgb(x)
    gray_to_rgb.set_weights(_copy_weights(weights.normalization))
    return x


def _random_to_rgb(image: keras.KerasTensor, config: TrainConfig, weights: Weights) -> keras.KerasTensor:
    """Return input layers as a university lecture has them: rescaling to 0..1, then a random convolution."""
    import keras
    from keras import layers

    around = _stem_padding(config.image_size, weights.symmetric_padding)
    start = keras.initializers.GlorotUniform(config.seed)
    x = layers.Rescaling(1 / 255, name="scale")(image)
    x = layers.Conv2D(3, 3, padding="same", kernel_initializer=start, name="gray_to_rgb")(x)
    return layers.ZeroPadding2D((around, around), name="pad_stem")(x)


def _copy_weights(normalization: Normalization) -> list[np.ndarray]:
    """Return kernel (3, 3, 1, 3) and bias (3,) that turn the centered gray pixel into the backbone's own RGB input."""
    mean, std = np.array(normalization.mean), np.array(normalization.std)
    kernel = np.zeros((3, 3, 1, 3), np.float32)
    kernel[1, 1, 0] = PIXEL_SCALE / std
    return [kernel, (normalization.pad_gray - mean) / std]


def last_layer(blocks: int | None) -> str:
    """Return the name of the backbone's layer that the head reads; see `TrainConfig.blocks`."""
    return "out_relu" if blocks is None else f"{_block_name(blocks)}_depthwise_relu"


def end_of_block(names: Collection[str], number: int) -> str:
    """Return the name of the layer that ends an inverted residual block; number 0 is the stem before the first one.

    Args:
        names: of the network's layers.
        number: 0 to 17.
    """
    if number == 0:
        return "Conv1_relu"
    # Only blocks that keep size and width add their input.
    added = f"{_block_name(number)}_add"
    return added if added in names else f"{_block_name(number)}_project_BN"


def _block_name(number: int) -> str:
    return f"block_{number - 1}" if number > 1 else "expanded_conv"


def _backbone(x: keras.KerasTensor, config: TrainConfig, weights: Weights) -> keras.KerasTensor:
    """Return the last feature map of keras.applications' MobileNetV2, cut to `config.blocks`, for a padded `x`."""
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

    outputs: dict[str, keras.KerasTensor] = {}

    def call(layer: keras.layers.Layer, *args: object, **kwargs: object) -> keras.KerasTensor:
        outputs[layer.name] = layer(*args, **kwargs)
        return outputs[layer.name]

    if weights.path is None:
        _initialize(original, config.seed)
    load_into(original, weights)
    last = last_layer(config.blocks)
    kept = keras.Model(original.input, original.get_layer(last).output)
    # The clone has inputs of its own; only the tensors collected by `call` are connected to the image.
    backbone = keras.models.clone_model(kept, input_tensors=x, clone_function=adjust, call_function=call)
    backbone.set_weights(kept.get_weights())
    return outputs[last]


def _initialize(backbone: keras.Model, seed: int) -> None:
    """Fill the kernels by He's rule (arXiv:1502.01852), a variance of 2 / inputs.

    With Keras' default (Glorot) and frozen BatchNorm, features shrink to 1e-11: no classifier could learn from them.
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

    pool = layers.GlobalAveragePooling2D if config.head == "gap" else layers.Flatten
    x = pool(name=FEATURES_LAYER)(x)
    for i, units in enumerate(config.hidden_units, 1):
        x = rectified(x, config, units, f"hidden_{i}")
    return classify(x, config, class_count)
