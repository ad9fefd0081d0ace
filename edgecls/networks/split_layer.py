"""Splits a network at a layer: the layers up to it are frozen, those above it learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecls.networks.model import FEATURES_LAYER, end_of_block

if TYPE_CHECKING:
    import keras


def block_before(model: keras.Model, unfreeze: int) -> str:
    """Return the name of the layer that the last `unfreeze` inverted residual blocks of a MobileNetV2 begin on."""
    names = {layer.name for layer in model.layers}
    blocks = sum(name.endswith("_depthwise_BN") for name in names)
    return end_of_block(names, blocks - unfreeze)


def split_at(model: keras.Model, name: str) -> tuple[keras.Model, keras.Model]:
    """Return (image -> output of layer `name`, that output -> scores); both share the model's layers."""
    import keras

    middle = model.get_layer(name).output
    return keras.Model(model.input, middle), keras.Model(middle, model.output)


def learn_above(model: keras.Model, name: str) -> None:
    """Let everything above layer `name` learn, but BatchNormalization of the backbone.

    Frozen, it runs in inference mode: the statistics of a few small batches would undo what it learned from ImageNet.
    """
    import keras

    position = [layer.name for layer in model.layers].index(name)
    features = [layer.name for layer in model.layers].index(FEATURES_LAYER)
    for i, layer in enumerate(model.layers):
        frozen_norm = i <= features and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = i > position and not frozen_norm


def learn_gray_and_head(model: keras.Model) -> None:
    """Let gray_to_rgb and everything above the features learn, through the frozen backbone between them."""
    learn_above(model, FEATURES_LAYER)
    model.get_layer("gray_to_rgb").trainable = True
