"""A trained network rewritten for inference: same scores, fewer and cheaper operations.

Scaling, gray_to_rgb, stem convolution and its BatchNorm are all linear, so they become one convolution on the
single-channel image; every other BatchNorm goes into the convolution before it or the classifier after it; Dropout
goes. Where the network begins otherwise, scaling goes into the first layer with weights. A ReLU that is a layer's
activation becomes a layer of its own, so that every layer with weights but the last is linear.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]
# Kernel and bias, by layer name.
Weights = dict[str, list[Array]]
STEM = "Conv1"
BLOCKS = "space_to_depth"
# What one stem convolution swallows: they do nothing in the fused network.
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
    from keras import layers as kinds

    folded = _fold_batch_norms(model)
    image = keras.Input(model.input.shape[1:], batch_size=1, dtype="float32", name="centred_image")
    core = keras.models.clone_model(
        model,
        input_tensors=image,
        clone_function=functools.partial(_clone, model, folded),
        call_function=functools.partial(_call, model),
    )
    scaling = next(layer for layer in model.layers if isinstance(layer, kinds.Rescaling))
    _fold_scaling(model, scaling, folded)
    for layer in core.layers[1:]:
        if layer.weights:
            layer.set_weights(folded.get(layer.name) or model.get_layer(layer.name).get_weights())
    return FusedModel(core, round(-scaling.offset / scaling.scale))


def _clone(model: keras.Model, folded: Weights, layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return what stands for `layer` in the fused network."""
    if layer.name == STEM and _has_one_stem(model):
        return _fused_stem(model)
    settings = layer.get_config()
    if layer.name in folded:
        settings["use_bias"] = True
    if _is_rectified(layer):
        settings["activation"] = "linear"
    return type(layer).from_config(settings)


def _call(model: keras.Model, layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
    """Return what the layer that `_clone` made gives; one that does nothing gives its input."""
    from keras import layers as kinds

    if isinstance(layer, (kinds.Rescaling, kinds.BatchNormalization, kinds.Dropout)):
        return args[0]
    if _has_one_stem(model):
        if layer.name in FRONT:
            return args[0]
        size = model.input.shape[1]
        if layer.name == STEM and size % 2 == 0:
            return layer(space_to_depth(size)(args[0]))
    output = layer(*args, **kwargs)
    return kinds.ReLU(name=f"{layer.name}_relu")(output) if _is_rectified(model.get_layer(layer.name)) else output


def _is_rectified(layer: keras.layers.Layer) -> bool:
    """Return True for a layer with weights whose activation is a ReLU."""
    import keras

    return getattr(layer, "activation", None) is keras.activations.relu


def _has_one_stem(model: keras.Model) -> bool:
    """Return True if all before the first ReLU can be one convolution.

    A random gray_to_rgb cannot: its own zero padding lies between it and the stem.
    """
    return "pad_image" in [layer.name for layer in model.layers]


def _fold_scaling(model: keras.Model, scaling: keras.layers.Rescaling, folded: Weights) -> None:
    """Put the scaling of the image, and what else comes before the stem, into the first layer's weights in `folded`.

    The offset needs no place there: it is the gray that the image is centred on before it comes in.
    """
    from keras import layers as kinds

    if _has_one_stem(model):
        kernel, bias = _stem_weights(model, folded[STEM])
        folded[STEM] = [kernel * scaling.scale, bias]
        return
    first = next(layer for layer in model.layers if isinstance(layer, (kinds.Conv2D, kinds.Dense)))
    kernel, bias = folded.get(first.name) or first.get_weights()
    folded[first.name] = [kernel * scaling.scale, bias]


def _fold_batch_norms(model: keras.Model) -> Weights:
    """Return kernel and bias, by name, of every layer that takes in a BatchNorm: before its ReLU, or after one."""
    from keras import layers as kinds

    folded = {}
    previous, waiting = None, None
    for layer in model.layers:
        if isinstance(layer, kinds.BatchNormalization):
            if isinstance(previous, (kinds.Conv2D, kinds.DepthwiseConv2D)):
                folded[previous.name] = _fold(previous, layer)
            else:
                waiting = layer
        elif waiting is not None and layer.weights:
            folded[layer.name] = _fold_forward(waiting, layer)
            waiting = None
        previous = layer
    return folded


def _fold(convolution: keras.layers.Layer, norm: keras.layers.BatchNormalization) -> list[Array]:
    gain, offset = _gain_and_offset(norm)
    kernel = np.asarray(convolution.get_weights()[0], np.float64)
    # Depthwise kernels are (H, W, C, 1): their output channel is the third axis.
    shape = (-1, 1) if kernel.shape[-1] == 1 and kernel.shape[-2] == len(gain) else (-1,)
    return [kernel * gain.reshape(shape), offset]


def _fold_forward(norm: keras.layers.BatchNormalization, dense: keras.layers.Dense) -> list[Array]:
    gain, offset = _gain_and_offset(norm)
    kernel, bias = (np.asarray(weight, np.float64) for weight in dense.get_weights())
    return [kernel * gain[:, None], bias + offset @ kernel]


def _gain_and_offset(norm: keras.layers.BatchNormalization) -> tuple[Array, Array]:
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in norm.get_weights())
    gain = gamma / np.sqrt(variance + norm.epsilon)
    return gain, beta - mean * gain


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
    return [kernel, bias + np.einsum("c,hwcf->f", to_rgb_bias, stem)]


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
