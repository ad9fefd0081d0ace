"""Makes the fused network fit for int8: one preparation for TFLite and ONNX alike.

Imports TensorFlow inside its functions; runs no exported file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.export.equalise import equalise
from edgecls.export.fuse import FusedModel
from edgecls.export.layer_walk import one_or_all, per_output, sources_of, walk, with_weights
from edgecls.export.rounding import round_weights
from edgecls.export.targets import WEIGHT_STEPS

if TYPE_CHECKING:
    import keras

# 64 images of 224x224; larger ones have more pixels each. 128 left a quarter less divergence from the float model on
# clothes and as much on tiles, and took 6.5 GB of memory.
SWEEP_PIXELS = 64 * 224 * 224
LEAST_IMAGES = 16
# A slope outside is no drift of rounding but a channel with next to no signal.
SLOPE = (0.5, 2.0)


def prepare(fused: FusedModel, calibration: NDArray[np.uint8], weight_steps: int = WEIGHT_STEPS) -> FusedModel:
    """Return a copy of `fused` that loses little when a converter makes it int8: equalised, then corrected."""
    return correct(equalise(fused, calibration), calibration, weight_steps)


def correct(equalised: FusedModel, calibration: NDArray[np.uint8], weight_steps: int = WEIGHT_STEPS) -> FusedModel:
    """Return a copy of the network with weights on the int8 grid, each channel brought back in line with the float one.

    One sweep carries the float and the quantized activations side by side. What a layer gives before its activation is
    corrected by the straight line that fits the float values best: the offset is the empirical bias correction of
    Nagel et al. 2019 (arXiv:1906.04721), section 4.2; the slope, which a converter's step per channel takes in
    without rounding anew, is ours. The last layer is left alone: its scores are the result.

    Args:
        equalised: the network; it is left as it is.
        calibration: uint8 (N, S, S, 1), 0..255: training images, classes mixed from the first on.
        weight_steps: steps of the converter's grid from zero to a channel's largest weight.
    """
    import tensorflow as tf

    core = equalised.core
    count = max(LEAST_IMAGES, SWEEP_PIXELS // (calibration.shape[1] * calibration.shape[2]))
    corrected = with_weights(core, {})
    unquantized = _not_quantized(core, sources_of(core))

    def step(layer: keras.layers.Layer, inputs: list[Any]) -> tuple[Any, Any]:
        exact, rounded = [pair[0] for pair in inputs], [pair[1] for pair in inputs]
        if layer is core.layers[-1]:
            return None, None
        if layer.weights:
            exact, rounded = _fit_layer(layer, corrected.get_layer(layer.name), (exact[0], rounded[0]), weight_steps)
        else:
            exact, rounded = layer(one_or_all(exact)), layer(one_or_all(rounded))
        if layer.name not in unquantized:
            low, high = float(tf.reduce_min(rounded)), float(tf.reduce_max(rounded))
            low, high = min(low, 0.0), max(high, low + 1e-6, 1e-6)
            rounded = tf.quantization.fake_quant_with_min_max_vars(rounded, low, high)
        return exact, rounded

    start = tf.constant(calibration[:count].astype(np.float32) - equalised.pad_gray)
    walk(core, (start, start), step)
    return FusedModel(corrected, equalised.pad_gray)


def _fit_layer(
    layer: keras.layers.Layer, corrected: keras.layers.Layer, inputs: tuple[Any, Any], weight_steps: int
) -> tuple[Any, Any]:
    """Set the weights of `corrected` and return what `layer` and it give on their own one of `inputs`."""
    import tensorflow as tf

    corrected.set_weights([round_weights(layer, inputs[1], weight_steps), layer.get_weights()[1]])
    # Linear: a ReLU is a layer of its own here, and the last layer never comes.
    wanted, given = layer(inputs[0]), corrected(inputs[1])
    axes = list(range(wanted.ndim - 1))
    wanted_mean, given_mean = tf.reduce_mean(wanted, axes), tf.reduce_mean(given, axes)
    spread = tf.reduce_mean((given - given_mean) ** 2, axes).numpy()
    together = tf.reduce_mean((wanted - wanted_mean) * (given - given_mean), axes).numpy()
    slope = np.clip(together / np.maximum(spread, 1e-12), *SLOPE)
    offset = wanted_mean.numpy() - given_mean.numpy() * slope
    kernel, bias = corrected.get_weights()
    corrected.set_weights([kernel * per_output(layer, slope), bias * slope + offset])
    return wanted, given * slope + offset


def _not_quantized(core: keras.Model, sources: dict[str, list[str]]) -> set[str]:
    """Return the layers whose output no converter quantizes: a ReLU takes it in, or it is padding."""
    from keras import layers as kinds

    paddings = {layer.name for layer in core.layers if isinstance(layer, kinds.ZeroPadding2D)}
    return paddings | {name for layer in core.layers if isinstance(layer, kinds.ReLU) for name in sources[layer.name]}
