"""Rewrites a trained network for inference: the same scores with fewer and cheaper operations.

Scaling, gray_to_rgb, the stem convolution and its BatchNorm are all linear, so they become one convolution on the
single-channel image. Every other BatchNorm is folded into the convolution before it or the classifier after it, and
Dropout is removed. In networks that begin differently, scaling is folded into the first layer with weights. A ReLU that
is a layer's activation becomes a layer of its own, so that every layer with weights but the last is linear.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.graph import Array, Weights

if TYPE_CHECKING:
    import keras

STEM = "Conv1"
BLOCKS = "space_to_depth"
# Layers that become part of the stem convolution and do nothing in the fused network.
FRONT = ("center", "pad_image", "gray_to_rgb")
# The padding around the image where the stem convolution cannot pad itself.
EDGES = "pad_stem"
# The fused kernel, 3 + 3 - 1 pixels (gray_to_rgb, then stem), lies within this many, starting two before the pixel.
_PIXELS = 6


@dataclass(frozen=True)
class FusedModel:
    """The fused network and how a raw pixel enters it.

    Attributes:
        core: Keras model from centered images float32 (1, S, S, 1), pixel - pad_gray, to scores float32 (1, C).
        pad_gray: the gray value that means zero; the image's borders are padded with it. A whole number but in float
            files of imported networks.
    """

    core: keras.Model
    pad_gray: float


def fuse(model: keras.Model, *, in_blocks: bool = False) -> FusedModel:
    """Return the network `model` of `training.model` without training-only and foldable layers.

    Folding a BatchNorm into the convolution before it: Jacob et al. 2018 (arXiv:1712.05877), section 3.2.

    Args:
        model: the trained network; it is not changed.
        in_blocks: True to let the stem read an image of even size as blocks of 2x2 pixels, which is faster in int8 by
            2 to 7 % (LiteRT, ONNX Runtime) and slower in float by 1 to 2 %. A learned gray_to_rgb always does.
    """
    import keras
    from keras import layers as kinds

    folded = _fold_batch_norms(model)
    scaling = next(layer for layer in model.layers if isinstance(layer, kinds.Rescaling))
    stem = _fuse_stem(model, folded[STEM], in_blocks) if _has_one_stem(model) else None
    if stem is not None:
        folded[STEM] = [stem.kernel, stem.bias]
    _fold_scaling(model, scaling, folded)
    image = keras.Input(model.input.shape[1:], batch_size=1, dtype="float32", name="centered_image")
    core = keras.models.clone_model(
        model,
        input_tensors=image,
        clone_function=functools.partial(_clone, model, folded, stem),
        call_function=functools.partial(_call, model, stem),
    )
    for layer in core.layers[1:]:
        if layer.weights:
            layer.set_weights(folded.get(layer.name) or model.get_layer(layer.name).get_weights())
    return FusedModel(core, round(-scaling.offset / scaling.scale))


@dataclass(frozen=True, eq=False)
class _Stem:
    """The convolution that replaces gray_to_rgb and the stem.

    Attributes:
        kernel: (H, W, 1, F), or (H, W, 4, F) if it reads blocks of 2x2 pixels.
        bias: (F,).
        edges: rows and columns of zeros (before the image, after it).
    """

    kernel: Array
    bias: Array
    edges: tuple[int, int]

    @property
    def in_blocks(self) -> bool:
        return bool(self.kernel.shape[2] == 4)

    @property
    def pads_itself(self) -> bool:
        """True if padding "same" gives these edges."""
        return self.edges[1] - self.edges[0] in (0, 1)


def _clone(model: keras.Model, folded: Weights, stem: _Stem | None, layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return the layer that replaces `layer` in the fused network."""
    from keras import layers as kinds

    if layer.name == STEM and stem is not None:
        padding, stride = "same" if stem.pads_itself else "valid", 1 if stem.in_blocks else 2
        return kinds.Conv2D(layer.filters, stem.kernel.shape[:2], strides=stride, padding=padding, name=STEM)
    settings = layer.get_config()
    if layer.name in folded:
        settings["use_bias"] = True
    if _is_rectified(layer):
        settings["activation"] = "linear"
    return type(layer).from_config(settings)


def _call(
    model: keras.Model, stem: _Stem | None, layer: keras.layers.Layer, *args: Any, **kwargs: Any
) -> keras.KerasTensor:
    """Return the output of a layer that `_clone` made, or its input for a layer that does nothing."""
    from keras import layers as kinds

    if isinstance(layer, (kinds.Rescaling, kinds.BatchNormalization, kinds.Dropout)):
        return args[0]
    if stem is not None:
        if layer.name in FRONT:
            return args[0]
        if layer.name == STEM:
            image = space_to_depth(model.input.shape[1])(args[0]) if stem.in_blocks else args[0]
            return layer(
                image if stem.pads_itself else kinds.ZeroPadding2D((stem.edges, stem.edges), name=EDGES)(image)
            )
    output = layer(*args, **kwargs)
    return kinds.ReLU(name=f"{layer.name}_relu")(output) if _is_rectified(model.get_layer(layer.name)) else output


def _is_rectified(layer: keras.layers.Layer) -> bool:
    """Return True for a layer with weights whose activation is a ReLU."""
    import keras

    return getattr(layer, "activation", None) is keras.activations.relu


def _has_one_stem(model: keras.Model) -> bool:
    """Return True if everything before the first ReLU can be one convolution.

    Not with a random gray_to_rgb: its own zero padding lies between it and the stem.
    """
    return "pad_image" in [layer.name for layer in model.layers]


def _fold_scaling(model: keras.Model, scaling: keras.layers.Rescaling, folded: Weights) -> None:
    """Put the scaling of the image into the first layer's weights in `folded`.

    The offset is not needed: the image is already centered on it.
    """
    from keras import layers as kinds

    weighted = (layer for layer in model.layers if isinstance(layer, (kinds.Conv2D, kinds.Dense)))
    first = model.get_layer(STEM) if _has_one_stem(model) else next(weighted)
    kernel, bias = folded.get(first.name) or first.get_weights()
    folded[first.name] = [kernel * scaling.scale, bias]


def _fold_batch_norms(model: keras.Model) -> Weights:
    """Return kernel and bias, by name, of every layer into which a BatchNorm before or after it is folded."""
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


def _fuse_stem(model: keras.Model, folded: list[Array], in_blocks: bool) -> _Stem:
    """Return gray_to_rgb and the stem convolution `folded` (kernel, bias) as one, without zeros at its edges.

    The kernel starts two pixels before its pixel, whether the network pads one pixel first (Keras) or two (PyTorch). An
    even image in blocks of 2x2 pixels needs no stride. If gray_to_rgb reads one pixel, the kernel has 3x3 pixels or 2x2
    blocks.
    """
    to_rgb, to_rgb_bias = (np.asarray(w, np.float64) for w in model.get_layer("gray_to_rgb").get_weights())
    stem, bias = folded
    kernel = np.zeros((_PIXELS, _PIXELS, 1, stem.shape[-1]))
    ((padded, _), _) = model.get_layer("pad_image").padding
    for row, column in np.ndindex(stem.shape[:2]):
        part = np.einsum("hwic,cf->hwif", to_rgb, stem[row, column])
        top, left = 2 - padded + row, 2 - padded + column
        kernel[top : top + to_rgb.shape[0], left : left + to_rgb.shape[1]] += part
    size, start, stride = model.input.shape[1], 2, 2
    learned = np.count_nonzero(to_rgb.any((2, 3))) > 1
    if size % 2 == 0 and (in_blocks or learned):
        # Channel 2 i + j of a block is its pixel in row i, column j: the order of space-to-depth.
        half = _PIXELS // 2
        kernel = kernel.reshape(half, 2, half, 2, -1).transpose(0, 2, 1, 3, 4).reshape(half, half, 4, -1)
        size, start, stride = size // 2, 1, 1
    # Square, so that rows and columns share one pair of edges.
    used = np.flatnonzero(kernel.any((1, 2, 3)) | kernel.any((0, 2, 3)))
    first, last = (int(used[0]), int(used[-1])) if len(used) else (0, len(kernel) - 1)
    kernel = kernel[first : last + 1, first : last + 1]
    before = start - first
    after = (-(-size // stride) - 1) * stride + len(kernel) - size - before
    return _Stem(kernel, bias + np.einsum("c,hwcf->f", to_rgb_bias, stem), (before, after))


def space_to_depth(size: int) -> keras.layers.Layer:
    """Return a layer from images (N, size, size, C) to their 2x2 blocks (N, size / 2, size / 2, 4 C)."""
    import keras
    import tensorflow as tf

    class SpaceToDepth(keras.layers.Layer):  # type: ignore[misc]
        def call(self, image: tf.Tensor) -> tf.Tensor:
            return tf.nn.space_to_depth(image, 2)

        def compute_output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
            return (shape[0], size // 2, size // 2, 4 * shape[3])

    return SpaceToDepth(name=BLOCKS)
