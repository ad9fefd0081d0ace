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
# What the stem convolution swallows: they do nothing in the fused network.
FRONT = ("center", "pad_image", "gray_to_rgb")


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
            return _fused_stem(model, size, folded[layer.name][0].shape[-1])
        settings = layer.get_config()
        if layer.name in folded:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        gone = layer.name in FRONT or isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Dropout))
        return args[0] if gone else layer(*args, **kwargs)

    image = keras.Input((size, size, 1), batch_size=1, dtype="float32", name="centred_image")
    core = keras.models.clone_model(model, input_tensors=image, clone_function=clone, call_function=call)
    folded[STEM] = _stem_weights(model, folded[STEM], core.get_layer(STEM).kernel_size[0], size)
    for layer in core.layers[1:]:
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


def _fused_stem(model: keras.Model, size: int, filters: int) -> keras.layers.Layer:
    from keras import layers

    side = _kernel_side(size, _stem_padding(model), model.get_layer("gray_to_rgb").kernel_size[0] + 2)
    return layers.Conv2D(filters, side, strides=2, padding="same", name=STEM)


def _same_padding(size: int, side: int) -> int:
    """Return the pixels that "same" padding puts before the image, for stride 2."""
    return int(max((-(-size // 2) - 1) * 2 + side - size, 0)) // 2


def _kernel_side(size: int, before: int, least: int) -> int:
    """Return the smallest kernel whose "same" padding starts at or before the network's own.

    PyTorch pads both sides of an even image; "same" pads the far side first. A wider kernel with zeros at its end
    does the former with the latter, so that no separate padding operation is left.
    """
    return next(k for k in range(least, least + 4) if 0 <= _same_padding(size, k) - before <= k - least)


def _stem_weights(model: keras.Model, folded: list[Array], side: int, size: int) -> list[Array]:
    """Return kernel (side, side, 1, F) and bias (F,) of gray_to_rgb and the stem convolution in one."""
    to_rgb, to_rgb_bias = (np.asarray(w, np.float64) for w in model.get_layer("gray_to_rgb").get_weights())
    stem, bias = folded
    kernel = np.zeros((side, side, 1, stem.shape[-1]))
    offset = _same_padding(size, side) - _stem_padding(model)
    for row, column in np.ndindex(stem.shape[:2]):
        part = np.einsum("hwic,cf->hwif", to_rgb, stem[row, column])
        top, left = offset + row, offset + column
        kernel[top : top + to_rgb.shape[0], left : left + to_rgb.shape[1]] += part
    return [kernel / PIXEL_SCALE, bias + np.einsum("c,hwcf->f", to_rgb_bias, stem)]
