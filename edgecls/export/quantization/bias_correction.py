"""Bias correction: rounds weights to the int8 grid and corrects each layer's output for the rounding."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import WEIGHT_STEPS
from edgecls.export.fuse import FusedModel
from edgecls.export.graph import (
    Array,
    Batches,
    apply_to_both,
    is_understood,
    pair_inputs,
    per_output,
    sources_of,
    walk,
    with_weights,
)
from edgecls.export.quantization.perturb_images import PERTURBED_FRACTION, perturb_some
from edgecls.export.quantization.rounding import round_weights

if TYPE_CHECKING:
    import keras

# A slope outside this range comes from a channel with almost no signal, not from rounding.
SLOPE = (0.5, 2.0)


def correct_bias(
    equalized: FusedModel,
    calibration: NDArray[np.uint8],
    weight_steps: int = WEIGHT_STEPS,
    *,
    per_tensor: bool = False,
) -> FusedModel:
    """Return a copy of the network with weights on the int8 grid and each channel fitted to the float network's.

    One sweep computes the float and the quantized activations together. The output of each layer, before its
    activation, is corrected by the straight line that fits the float values best. The offset is the empirical bias
    correction of Nagel et al. 2019 (arXiv:1906.04721), section 4.2. The slope is our addition: a converter's step per
    channel absorbs it without rounding again; with one step per layer there is none. The last layer is not changed,
    because its scores are the result.

    Args:
        equalized: the network; it is not changed.
        calibration: uint8 (N, S, S, 1), 0..255: training images, the classes mixed from the start.
        weight_steps: steps of the converter's grid from zero to a channel's largest weight.
        per_tensor: True if the grid is that of the layer's largest weight.
    """
    core = equalized.core
    corrected = with_weights(core, {})
    unquantized = _not_quantized(core, sources_of(core))

    def step(layer: keras.layers.Layer, inputs: list[Batches]) -> Batches:
        if layer is core.layers[-1]:
            return []
        if is_understood(layer):
            outputs = _fit_layer(layer, corrected.get_layer(layer.name), inputs[0], weight_steps, per_tensor)
        else:
            outputs = [apply_to_both(layer, pairs) for pairs in zip(*inputs, strict=True)]
        return outputs if layer.name in unquantized else _quantize(outputs)

    walk(core, pair_inputs(perturb_some(calibration, PERTURBED_FRACTION), equalized.pad_gray), step)
    return FusedModel(corrected, equalized.pad_gray)


def _fit_layer(
    layer: keras.layers.Layer, corrected: keras.layers.Layer, inputs: Batches, weight_steps: int, per_tensor: bool
) -> Batches:
    """Set the weights of `corrected` and return the float output of `layer` and the quantized one of `corrected`."""
    import tensorflow as tf

    kernel = round_weights(layer, [rounded for _, rounded in inputs], weight_steps, per_tensor=per_tensor)
    corrected.set_weights([kernel, layer.get_weights()[1]])
    # Both are linear: a ReLU is a layer of its own here, and the last layer is skipped.
    outputs = [(layer(exact), corrected(rounded)) for exact, rounded in inputs]
    wanted, given, variance, covariance = _moments(outputs)
    slope = np.clip(covariance / np.maximum(variance, 1e-12), *SLOPE)
    slope = np.ones_like(slope) if per_tensor else slope
    offset = wanted - given * slope
    kernel, bias = corrected.get_weights()
    corrected.set_weights([kernel * per_output(layer, slope), bias * slope + offset])
    scale, shift = tf.constant(slope, tf.float32), tf.constant(offset, tf.float32)
    return [(wanted, given * scale + shift) for wanted, given in outputs]


def _moments(pairs: Batches) -> tuple[Array, Array, Array, Array]:
    """Return the means of first and second, the variance of second, and their covariance, by channel, float64 (C,)."""
    import tensorflow as tf

    total, count = np.zeros(()), 0
    for pair in pairs:
        first, second = (tf.reshape(tf.cast(values, tf.float64), (-1, values.shape[-1])) for values in pair)
        sums = (tf.reduce_sum(values, 0) for values in (first, second, second * second, first * second))
        total = total + np.array([each.numpy() for each in sums])
        count += len(first)
    wanted, given, squared, product = total / count
    return wanted, given, squared - given**2, product - wanted * given


def _quantize(outputs: Batches) -> Batches:
    """Return `outputs` with the quantized activations in 256 steps over their range."""
    import tensorflow as tf

    low = min(float(tf.reduce_min(rounded)) for _, rounded in outputs)
    high = max(float(tf.reduce_max(rounded)) for _, rounded in outputs)
    low, high = min(low, 0.0), max(high, low + 1e-6, 1e-6)
    quantize = tf.quantization.fake_quant_with_min_max_vars
    return [(exact, quantize(rounded, low, high)) for exact, rounded in outputs]


def _not_quantized(core: keras.Model, sources: dict[str, list[str]]) -> set[str]:
    """Return the layers whose output is not quantized again: a ReLU follows, or it is padding or the image itself."""
    from keras import layers as kinds

    paddings = {layer.name for layer in core.layers if isinstance(layer, kinds.ZeroPadding2D)}
    before_relu = {name for layer in core.layers if isinstance(layer, kinds.ReLU) for name in sources[layer.name]}
    # The image has one step per gray value, whatever gray values it holds.
    image = {layer.name for layer in itertools.takewhile(lambda layer: not layer.weights, core.layers)}
    return paddings | before_relu | image
