"""Makes the fused network fit for int8: one preparation for TFLite and ONNX alike.

Imports TensorFlow inside its functions; runs no exported file.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecls.boards.targets import WEIGHT_STEPS
from edgecls.config import ExportConfig
from edgecls.export.fuse import FusedModel
from edgecls.export.graph import Array, Batches, both_sides, each_side, per_output, sources_of, walk, with_weights
from edgecls.export.quantization.equalize import equalize
from edgecls.export.quantization.perturb import VARIED, vary_some
from edgecls.export.quantization.prune import prune
from edgecls.export.quantization.rounding import round_weights

if TYPE_CHECKING:
    import keras

# A slope outside is no drift of rounding but a channel with next to no signal.
SLOPE = (0.5, 2.0)


def prepare(
    fused: FusedModel,
    calibration: NDArray[np.uint8],
    weight_steps: int = WEIGHT_STEPS,
    *,
    price: float = ExportConfig.prune,
) -> FusedModel:
    """Return a copy of `fused` that loses little when a converter makes it int8: pruned, equalized, corrected."""
    return correct(equalize(prune(fused, calibration, price), calibration), calibration, weight_steps)


def correct(equalized: FusedModel, calibration: NDArray[np.uint8], weight_steps: int = WEIGHT_STEPS) -> FusedModel:
    """Return a copy of the network with weights on the int8 grid, each channel brought back in line with the float one.

    One sweep carries the float and the quantized activations side by side. What a layer gives before its activation is
    corrected by the straight line that fits the float values best: the offset is the empirical bias correction of
    Nagel et al. 2019 (arXiv:1906.04721), section 4.2; the slope, which a converter's step per channel takes in
    without rounding anew, is ours. The last layer is left alone: its scores are the result.

    Args:
        equalized: the network; it is left as it is.
        calibration: uint8 (N, S, S, 1), 0..255: training images, classes mixed from the first on.
        weight_steps: steps of the converter's grid from zero to a channel's largest weight.
    """
    core = equalized.core
    corrected = with_weights(core, {})
    unquantized = _not_quantized(core, sources_of(core))

    def step(layer: keras.layers.Layer, inputs: list[Batches]) -> Batches:
        if layer is core.layers[-1]:
            return []
        if layer.weights:
            outputs = _fit_layer(layer, corrected.get_layer(layer.name), inputs[0], weight_steps)
        else:
            outputs = [each_side(layer, pairs) for pairs in zip(*inputs, strict=True)]
        return outputs if layer.name in unquantized else _with_steps(outputs)

    walk(core, both_sides(vary_some(calibration, VARIED), equalized.pad_gray), step)
    return FusedModel(corrected, equalized.pad_gray)


def _fit_layer(layer: keras.layers.Layer, corrected: keras.layers.Layer, inputs: Batches, weight_steps: int) -> Batches:
    """Set the weights of `corrected` and return what `layer` and it give, each on its own side of `inputs`."""
    import tensorflow as tf

    corrected.set_weights(
        [round_weights(layer, [rounded for _, rounded in inputs], weight_steps), layer.get_weights()[1]]
    )
    # Linear: a ReLU is a layer of its own here, and the last layer never comes.
    outputs = [(layer(exact), corrected(rounded)) for exact, rounded in inputs]
    wanted, given, squared, together = _means(outputs)
    slope = np.clip((together - wanted * given) / np.maximum(squared - given**2, 1e-12), *SLOPE)
    offset = wanted - given * slope
    kernel, bias = corrected.get_weights()
    corrected.set_weights([kernel * per_output(layer, slope), bias * slope + offset])
    scale, shift = tf.constant(slope, tf.float32), tf.constant(offset, tf.float32)
    return [(wanted, given * scale + shift) for wanted, given in outputs]


def _means(pairs: Batches) -> Array:
    """Return the means of first, second, its square and the product of both by channel, float64 (4, C)."""
    import tensorflow as tf

    total, places = np.zeros(()), 0
    for pair in pairs:
        first, second = (tf.reshape(tf.cast(side, tf.float64), (-1, side.shape[-1])) for side in pair)
        total = total + tf.reduce_sum(tf.stack([first, second, second**2, first * second]), 1).numpy()
        places += len(first)
    return np.asarray(total / places)


def _with_steps(outputs: Batches) -> Batches:
    """Return `outputs`, their second sides in 256 steps over the range of all."""
    import tensorflow as tf

    low = min(float(tf.reduce_min(rounded)) for _, rounded in outputs)
    high = max(float(tf.reduce_max(rounded)) for _, rounded in outputs)
    low, high = min(low, 0.0), max(high, low + 1e-6, 1e-6)
    quantize = tf.quantization.fake_quant_with_min_max_vars
    return [(exact, quantize(rounded, low, high)) for exact, rounded in outputs]


def _not_quantized(core: keras.Model, sources: dict[str, list[str]]) -> set[str]:
    """Return the layers whose output keeps its steps: a ReLU takes it in, or it is padding, or the image itself."""
    from keras import layers as kinds

    paddings = {layer.name for layer in core.layers if isinstance(layer, kinds.ZeroPadding2D)}
    cut = {name for layer in core.layers if isinstance(layer, kinds.ReLU) for name in sources[layer.name]}
    # One step a gray value, whatever grays there are.
    image = {layer.name for layer in itertools.takewhile(lambda layer: not layer.weights, core.layers)}
    return paddings | cut | image
