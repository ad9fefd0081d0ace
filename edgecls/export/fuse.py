"""A trained network rewritten for inference: same scores, fewer and cheaper operations.

Scaling, gray_to_rgb, stem convolution and its BatchNorm are all linear, so they become one convolution on the
single-channel image; every other BatchNorm goes into the convolution before it; Dropout goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.training.model import PIXEL_SCALE

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]
STEM = "Conv1"
BLOCKS = "space_to_depth"
# What the stem convolution swallows: they do nothing in the fused network.
FRONT = ("center", "pad_image", "gray_to_rgb")
# Sides of the fused kernel: 3 + 3 - 1 pixels (gray_to_rgb, then stem), or as many 2x2 blocks as hold them.
_KERNEL, _BLOCK_KERNEL = 5, 3


@dataclass(frozen=True)
class FusedModel:
    """The fused network and how a raw pixel enters it.

    Attributes:
        core: Keras model from centred images float32 (1, S, S, 1), pixel - pad_gray, to scores float32 (1, C).
        pad_gray: the gray value that stands for zero: what the image is padded with at its borders.
    """

    core: keras.Model
    pad_gray: int


def fuse(model: keras.Model) -> FusedModel:
    """Return the network `model` of `training.model` without training-only and foldable layers.

    Folding a BatchNorm into the convolution before it: Jacob et al. 2018 (arXiv:1712.05877), section 3.2.
    """
    import keras

    size = model.input.shape[1]
    folded = _fold_batch_norms(model)
    pad_gray = round(-model.get_layer("center").offset * PIXEL_SCALE)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name == STEM:
            return _fused_stem(model)
        settings = layer.get_config()
        if layer.name in folded:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        if layer.name == STEM and size % 2 == 0:
            return layer(space_to_depth(size)(args[0]))
        gone = layer.name in FRONT or isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Dropout))
        return args[0] if gone else layer(*args, **kwargs)

    image = keras.Input((size, size, 1), batch_size=1, dtype="float32", name="centred_image")
    core = keras.models.clone_model(model, input_tensors=image, clone_function=clone, call_function=call)
    folded[STEM] = _stem_weights(model, folded[STEM])
    for layer in core.layers[1:]:
        if layer.weights:
            layer.set_weights(folded.get(layer.name) or model.get_layer(layer.name).get_weights())
    return FusedModel(core, pad_gray)


def _fold_batch_norms(model: keras.Model) -> dict[str, list[Array]]:
    """Return kernel and bias, by layer name, of every convolution that a BatchNorm follows."""
    import keras

    folded = {}
    previous = None
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert previous is not None, "a BatchNorm follows its convolution in MobileNetV2"
            folded[previous.name] = _fold(previous, layer)
        previous = layer
    return folded


def _fold(convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> list[Array]:
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in norm.get_weights())
    gain = gamma / np.sqrt(variance + norm.epsilon)
    kernel = np.asarray(convolution.get_weights()[0], np.float64)
    # Depthwise kernels are (H, W, C, 1): their output channel is the third axis.
    shape = (-1, 1) if kernel.shape[-1] == 1 and kernel.shape[-2] == len(gain) else (-1,)
    return [kernel * gain.reshape(shape), beta - mean * gain]


def _stem_padding(model: keras.Model) -> int:
    """Return how many pixels the image is padded with above and on the left."""
    ((top, _), _) = model.get_layer("pad_image").padding
    return int(top)


def _fused_stem(model: keras.Model) -> keras.layers.Layer:
    """Return the layer of the fused stem convolution: on 2x2 blocks of pixels if the size is even."""
    from keras import layers

    filters = model.get_layer(STEM).filters
    if model.input.shape[1] % 2:
        return layers.Conv2D(filters, _KERNEL, strides=2, padding="same", name=STEM)
    return layers.Conv2D(filters, _BLOCK_KERNEL, padding="same", name=STEM)


def _stem_weights(model: keras.Model, folded: list[Array]) -> list[Array]:
    """Return kernel and bias (F,) of gray_to_rgb and the stem convolution in one.

    An odd image takes a kernel (5, 5, 1, F) with stride 2. An even one is seen as blocks of 2x2 pixels, by a kernel
    (3, 3, 4, F): that holds 6x6 pixels from two before the block on, whether the network pads one pixel first (Keras)
    or two (PyTorch), and it needs neither stride nor a padding operation.
    """
    to_rgb, to_rgb_bias = (np.asarray(w, np.float64) for w in model.get_layer("gray_to_rgb").get_weights())
    stem, bias = folded
    odd = model.input.shape[1] % 2
    side = _KERNEL if odd else 2 * _BLOCK_KERNEL
    kernel = np.zeros((side, side, 1, stem.shape[-1]))
    offset = 2 - _stem_padding(model)
    for row, column in np.ndindex(stem.shape[:2]):
        part = np.einsum("hwic,cf->hwif", to_rgb, stem[row, column])
        top, left = offset + row, offset + column
        kernel[top : top + to_rgb.shape[0], left : left + to_rgb.shape[1]] += part
    if not odd:
        # Channel 2 i + j of a block is its pixel in row i, column j: the order of space-to-depth.
        blocks = kernel.reshape(_BLOCK_KERNEL, 2, _BLOCK_KERNEL, 2, -1)
        kernel = blocks.transpose(0, 2, 1, 3, 4).reshape(_BLOCK_KERNEL, _BLOCK_KERNEL, 4, -1)
    return [kernel / PIXEL_SCALE, bias + np.einsum("c,hwcf->f", to_rgb_bias, stem)]


def space_to_depth(size: int) -> keras.layers.Layer:
    """Return a layer from images (N, size, size, 1) to their 2x2 blocks (N, size / 2, size / 2, 4)."""
    import keras
    import tensorflow as tf

    class SpaceToDepth(keras.layers.Layer):  # type: ignore[misc]
        def call(self, image: tf.Tensor) -> tf.Tensor:
            return tf.nn.space_to_depth(image, 2)

        def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
            return (shape[0], size // 2, size // 2, 4)

    return SpaceToDepth(name=BLOCKS)
