"""Makes the fused network fit for int8: one preparation for TFLite and ONNX alike.

The float network that comes out gives the scores that went in, up to rounding of its weights, but survives what the
converters do to it. Imports TensorFlow inside its functions; runs no exported file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.export.fuse import FusedModel

if TYPE_CHECKING:
    import keras

Array = NDArray[Any]
Weights = dict[str, list[Array]]
# Per layer: the least and the largest value of each output channel.
Ranges = dict[str, tuple[Array, Array]]

# Correcting on 64 images of 224x224 measured no worse than on 128; larger images have more pixels each.
SWEEP_PIXELS = 64 * 224 * 224
LEAST_IMAGES = 16
# How far a channel's largest value stays below the ReLU's ceiling: unseen images go a little beyond what was measured.
HEADROOM = 1.1
LARGEST_SCALE = 16.0
# A linear channel this much narrower than the widest one is noise: it is widened no further.
NARROWEST = 1e-3
# A convolution that reads equalised channels has one step for all of them, so widening costs its weights precision;
# a depthwise one has a step for each. 0.3 to 0.7 measured alike, 1 worse.
SHARED_STEP_EXPONENT = 0.7
# A slope outside is no drift of rounding but a channel with next to no signal.
SLOPE = (0.5, 2.0)


def prepare(fused: FusedModel, calibration: NDArray[np.uint8]) -> FusedModel:
    """Return a copy of `fused` whose weights lose little when a converter makes them int8.

    Args:
        fused: the network; it is left as it is.
        calibration: uint8 (N, S, S, 1), 0..255: training images, classes mixed from the first on.
    """
    pixels = calibration.shape[1] * calibration.shape[2]
    images = calibration.astype(np.float32) - fused.pad_gray
    core = _equalise(fused.core, images)
    return FusedModel(_correct(core, images[: max(LEAST_IMAGES, SWEEP_PIXELS // pixels)]), fused.pad_gray)


@dataclass(frozen=True, eq=False)
class _Group:
    """Layers whose outputs share one scale per channel, because nothing with weights lies between them."""

    layers: list[keras.layers.Layer]
    readers: list[keras.layers.Layer]

    @property
    def ceilings(self) -> list[tuple[str, float]]:
        import keras

        return [(layer.name, layer.max_value) for layer in self.layers if isinstance(layer, keras.layers.ReLU)]


def _equalise(core: keras.Model, images: Array) -> keras.Model:
    """Return a copy of `core` with the same scores whose channels use the 8 bits of their tensor evenly.

    Cross-layer equalisation: Nagel et al. 2019 (arXiv:1906.04721), section 4.1; weighing activations against weights
    by an exponent: Xiao et al. 2022 (arXiv:2211.10438). Linear channels are centred on zero as well, as a convolution
    of one pixel takes the offset into its bias.
    """
    ranges = _measure_ranges(core, images)
    sources = _sources(core)
    weights: Weights = {
        layer.name: [np.asarray(w, np.float64) for w in layer.get_weights()] for layer in core.layers if layer.weights
    }
    for group in _groups(core, sources):
        if group.ceilings:
            _scale(group, _relu_scale(group, ranges), weights)
        elif all(layer.kernel.shape[:2] == (1, 1) for layer in group.readers):
            _centre(group, ranges, weights, sources)
            _scale(group, _linear_scale(group, ranges), weights)
    return _with_weights(core, weights)


def _groups(core: keras.Model, sources: dict[str, list[str]]) -> list[_Group]:
    """Return the groups that may be rescaled: made by linear convolutions only, read by layers with weights."""
    from keras import layers as kinds

    passing = (kinds.ReLU, kinds.ZeroPadding2D, kinds.Add, kinds.GlobalAveragePooling2D, kinds.Flatten)
    convolutions = (kinds.Conv2D, kinds.DepthwiseConv2D)
    leader: dict[str, str] = {}
    for layer in core.layers:
        leader[layer.name] = layer.name
        if isinstance(layer, passing):
            joined = {leader[name] for name in sources[layer.name]}
            leader |= {name: layer.name for name, old in leader.items() if old in joined}
    groups = []
    for name in dict.fromkeys(leader.values()):
        members = [layer for layer in core.layers if leader[layer.name] == name]
        readers = [
            layer
            for layer in core.layers
            if not isinstance(layer, passing) and any(leader[source] == name for source in sources[layer.name])
        ]
        made = all(isinstance(layer, (*passing, *convolutions)) for layer in members)
        if made and readers and all(isinstance(layer, (*convolutions, kinds.Dense)) for layer in readers):
            groups.append(_Group(members, readers))
    return groups


def _relu_scale(group: _Group, ranges: Ranges) -> Array:
    """Return by how much each channel may grow before it meets the ReLU's ceiling, where it would be cut."""
    rooms = [ceiling / np.maximum(ranges[name][1] * HEADROOM, 1e-9) for name, ceiling in group.ceilings]
    own_step = all(_is_depthwise(layer) for layer in group.readers)
    scale = np.min(rooms, axis=0) ** (1.0 if own_step else SHARED_STEP_EXPONENT)
    return np.asarray(np.clip(scale, 1, LARGEST_SCALE), np.float64)


def _linear_scale(group: _Group, ranges: Ranges) -> Array:
    """Return what makes the channels' ranges alike in the tensor of the group where they are widest."""
    widths = [np.maximum(high, -low) for low, high in (ranges[layer.name] for layer in group.layers)]
    shares = np.max([width / max(width.max(), 1e-9) for width in widths], axis=0)
    return np.asarray(1 / np.maximum(shares, NARROWEST), np.float64)


def _centre(group: _Group, ranges: Ranges, weights: Weights, sources: dict[str, list[str]]) -> None:
    """Move the middle of every linear channel to zero and take the move back in the layers that read it."""
    moves: dict[str, Array] = {}
    for layer in group.layers:
        low, high = ranges[layer.name]
        if layer.weights:
            moves[layer.name] = -(low + high) / 2
            weights[layer.name][1] = weights[layer.name][1] + moves[layer.name]
        else:
            moves[layer.name] = np.sum([moves[name] for name in sources[layer.name]], axis=0)
        ranges[layer.name] = low + moves[layer.name], high + moves[layer.name]
    for layer in group.readers:
        kernel, bias = weights[layer.name]
        weights[layer.name][1] = bias - moves[sources[layer.name][0]] @ kernel[0, 0]


def _scale(group: _Group, scale: Array, weights: Weights) -> None:
    """Multiply the group's channels by `scale` and divide the weights of its readers by it."""
    for layer in group.layers:
        if layer.weights:
            kernel, bias = weights[layer.name]
            weights[layer.name] = [kernel * _per_output(layer, scale), bias * scale]
    for layer in group.readers:
        kernel = weights[layer.name][0]
        # Input channels are the third axis of both kinds of convolution; Flatten puts them last, pixel after pixel.
        divisor = scale[:, None] if kernel.ndim == 4 else np.tile(scale, len(kernel) // len(scale))[:, None]
        weights[layer.name][0] = kernel / divisor


def _correct(core: keras.Model, images: Array) -> keras.Model:
    """Return a copy of `core` on the int8 grid, each channel brought back in line with `core` on `images`.

    One sweep carries the float and the quantized activations side by side. What a layer gives before its activation is
    corrected by the straight line that fits the float values best: the offset is the empirical bias correction of
    Nagel et al. 2019 (arXiv:1906.04721), section 4.2; the slope, which a converter's step per channel takes in
    without rounding anew, is ours. The last layer is left alone: its scores are the result.
    """
    import tensorflow as tf

    corrected = _with_weights(core, {})
    unquantized = _not_quantized(core, _sources(core))

    def step(layer: keras.layers.Layer, inputs: list[Any]) -> tuple[Any, Any]:
        exact, rounded = [pair[0] for pair in inputs], [pair[1] for pair in inputs]
        if layer is core.layers[-1]:
            return None, None
        if layer.weights:
            exact, rounded = _fit_layer(layer, corrected.get_layer(layer.name), exact[0], rounded[0])
        else:
            exact, rounded = layer(_one_or_all(exact)), layer(_one_or_all(rounded))
        if layer.name not in unquantized:
            low, high = float(tf.reduce_min(rounded)), float(tf.reduce_max(rounded))
            low, high = min(low, 0.0), max(high, low + 1e-6, 1e-6)
            rounded = tf.quantization.fake_quant_with_min_max_vars(rounded, low, high)
        return exact, rounded

    start = tf.constant(images)
    _walk(core, (start, start), step)
    return corrected


def _fit_layer(layer: keras.layers.Layer, corrected: keras.layers.Layer, exact: Any, rounded: Any) -> tuple[Any, Any]:
    """Set the weights of `corrected` and return what `layer` and it give on their inputs."""
    import tensorflow as tf

    kernel, bias = layer.get_weights()
    corrected.set_weights([round_to_int8(layer, kernel), bias])
    wanted, given = _before_activation(layer, exact), _before_activation(corrected, rounded)
    axes = list(range(wanted.ndim - 1))
    wanted_mean, given_mean = tf.reduce_mean(wanted, axes), tf.reduce_mean(given, axes)
    spread = tf.reduce_mean((given - given_mean) ** 2, axes).numpy()
    together = tf.reduce_mean((wanted - wanted_mean) * (given - given_mean), axes).numpy()
    slope = np.clip(together / np.maximum(spread, 1e-12), *SLOPE)
    offset = wanted_mean.numpy() - given_mean.numpy() * slope
    kernel, bias = corrected.get_weights()
    corrected.set_weights([kernel * _per_output(layer, slope), bias * slope + offset])
    return layer.activation(wanted), layer.activation(given * slope + offset)


def round_to_int8(layer: keras.layers.Layer, kernel: Array) -> Array:
    """Return `kernel` on the grid that both converters choose: per output channel, 127 steps up to the largest weight.

    Rounding again changes nothing, so the converters keep these weights.
    """
    last = 2 if _is_depthwise(layer) else kernel.ndim - 1
    axes = tuple(axis for axis in range(kernel.ndim) if axis != last)
    step = np.maximum(np.abs(kernel).max(axes, keepdims=True), 1e-12) / 127
    return np.asarray(np.round(kernel / step) * step)


def _before_activation(layer: keras.layers.Layer, values: Any) -> Any:
    # Convolutions are linear here: their ReLU is a layer of its own.
    return values @ layer.kernel + layer.bias if layer.kernel.ndim == 2 else layer(values)


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    import keras

    return isinstance(layer, keras.layers.DepthwiseConv2D)


def _per_output(layer: keras.layers.Layer, values: Array) -> Array:
    """Return `values` of each output channel in the shape that multiplies the kernel of `layer`."""
    return values[:, None] if _is_depthwise(layer) else values


def _not_quantized(core: keras.Model, sources: dict[str, list[str]]) -> set[str]:
    """Return the layers whose output no converter quantizes: a ReLU takes it in, or it is padding."""
    from keras import layers as kinds

    paddings = {layer.name for layer in core.layers if isinstance(layer, kinds.ZeroPadding2D)}
    return paddings | {name for layer in core.layers if isinstance(layer, kinds.ReLU) for name in sources[layer.name]}


def _measure_ranges(core: keras.Model, images: Array) -> Ranges:
    import tensorflow as tf

    ranges: Ranges = {}

    def step(layer: keras.layers.Layer, inputs: list[Any]) -> Any:
        values = layer(_one_or_all(inputs))
        axes = list(range(values.ndim - 1))
        low, high = tf.reduce_min(values, axes).numpy(), tf.reduce_max(values, axes).numpy()
        old_low, old_high = ranges.get(layer.name, (low, high))
        ranges[layer.name] = np.minimum(low, old_low), np.maximum(high, old_high)
        return values

    batch = max(1, SWEEP_PIXELS // (4 * images.shape[1] * images.shape[2]))
    for start in range(0, len(images), batch):
        _walk(core, tf.constant(images[start : start + batch]), step)
    return ranges


def _walk(core: keras.Model, start: Any, step: Callable[[keras.layers.Layer, list[Any]], Any]) -> None:
    """Call `step` on every layer in order with what it made of the layers before; values go once they are read."""
    sources = _sources(core)
    unread = Counter(name for names in sources.values() for name in names)
    values: dict[str, Any] = {}
    for layer in core.layers:
        names = sources[layer.name]
        values[layer.name] = step(layer, [values[name] for name in names]) if names else start
        for name in names:
            unread[name] -= 1
            if not unread[name]:
                del values[name]


def _sources(core: keras.Model) -> dict[str, list[str]]:
    """Return, by layer name, the layers that it reads."""
    made_by = {id(layer.output): layer.name for layer in core.layers}
    sources: dict[str, list[str]] = {core.layers[0].name: []}
    for layer in core.layers[1:]:
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        sources[layer.name] = [made_by[id(tensor)] for tensor in inputs]
    return sources


def _one_or_all(values: list[Any]) -> Any:
    return values if len(values) > 1 else values[0]


def _with_weights(core: keras.Model, weights: Weights) -> keras.Model:
    """Return a copy of `core` with its own weights, but for those given by layer name."""
    import keras

    copy = keras.models.clone_model(core)
    copy.set_weights(core.get_weights())
    for name, values in weights.items():
        copy.get_layer(name).set_weights(values)
    return copy
