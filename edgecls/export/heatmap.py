"""Adds a second output to the fused network: how much each position of the last feature map speaks for each class.

Zhou et al. 2016, "Learning deep features for discriminative localization", arXiv:1512.04150: where a dense layer reads
the pooled features, each logit is a sum over positions. These summands are the class activation map. A softmax ignores
what all classes have in common, so the mean over the classes is subtracted from the weights. What the average image has
at a position is subtracted too (our addition): convolutions pad the borders with zeros, so that some positions have
large values in every image. On 200 images of 224 pixels with a pasted patch of 64 pixels that decides the class, the
maximum of the map of a frozen MobileNetV2 lay on the patch in 92 % of them without and in 96 % with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import Target
from edgecls.errors import ConfigError
from edgecls.export.fuse import FusedModel
from edgecls.export.graph import sources_of
from edgecls.networks.imported import BOTH_CLASSES

if TYPE_CHECKING:
    import keras

HEATMAP = "heatmap"
MOST_POSITIONS = 32 * 32
# The average image is made of so many.
AVERAGED_IMAGES = 64


def check_heatmap(model: keras.Model, target: Target) -> None:
    """Raise ConfigError for a trained network that has no class activation map, or a target that cannot have one."""
    if target.accelerator:
        raise ConfigError("files for an NPU have no heat map; export without --heatmap, or without --board")
    _find_pool(model)


def add_heatmap(fused: FusedModel, images: NDArray[np.uint8]) -> FusedModel:
    """Return the network with the outputs [scores (1, C), class activation map (1, h, w, C)].

    Args:
        fused: the network.
        images: uint8 (N, S, S, 1), of all classes; the map is zero for what they have on average.

    Raises:
        ConfigError: the scores are not a dense layer on a pooled feature map.
    """
    import keras
    from keras import layers as kinds

    pool = _find_pool(fused.core)
    kernel = fused.core.layers[-1].get_weights()[0]
    kernel = kernel - kernel.mean(1, keepdims=True)
    summed = kinds.Conv2D(kernel.shape[1], 1, use_bias=False, name=f"{HEATMAP}_sum")
    positions = summed(pool.input)
    summed.set_weights([kernel[None, None]])
    centered = images[:AVERAGED_IMAGES].astype(np.float32) - fused.pad_gray
    heatmap = keras.ops.subtract(positions, _average(keras.Model(fused.core.input, positions), centered))
    return replace(fused, core=keras.Model(fused.core.input, [fused.core.output, heatmap]))


def _average(model: keras.Model, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean output, with a first axis of one, for images (N, S, S, 1) that the model takes one by one."""
    import tensorflow as tf

    run = tf.function(model)
    outputs = np.stack([run(tf.constant(image[np.newaxis])).numpy() for image in images])
    average: NDArray[np.float32] = outputs.mean(axis=0, dtype=np.float64).astype(np.float32)
    return average


def _find_pool(model: keras.Model) -> keras.layers.Layer:
    """Return the layer between the last feature map and the classifier."""
    from keras import layers as kinds

    sources, layer = sources_of(model), model.layers[-1]
    # An imported network may have its softmax, and the two outputs of a sigmoid, in layers of their own.
    while isinstance(layer, (kinds.Activation, kinds.Softmax)) or layer.name == BOTH_CLASSES:
        layer = model.get_layer(sources[layer.name][0])
    # In a trained network these may lie between the features and the classifier; fusing removes them.
    while sources[layer.name]:
        layer = model.get_layer(sources[layer.name][0])
        if not isinstance(layer, (kinds.Dropout, kinds.BatchNormalization)):
            break
    if isinstance(layer, kinds.Dense):
        raise ConfigError(
            f"a heat map needs a classifier that reads the feature map directly, and the dense layer {layer.name!r} "
            "lies between; train without hidden layers, or export without --heatmap"
        )
    if isinstance(layer, kinds.Flatten):
        raise ConfigError(
            "a heat map needs average pooling, and this network flattens its features; train with --head gap, "
            "or export without --heatmap"
        )
    if not isinstance(layer, kinds.GlobalAveragePooling2D) or len(layer.input.shape) != 4:
        raise ConfigError(f"this network ends with {layer.name!r} and has no heat map; export without --heatmap")
    height, width = layer.input.shape[1:3]
    if not (min(height, width) >= 2 and height * width <= MOST_POSITIONS):
        raise ConfigError(
            f"the last feature map has {height} x {width} positions, and a heat map needs 2 x 2 to 32 x 32; train with "
            "another --image-size, or export without --heatmap"
        )
    return layer
