"""Cross-layer equalization: rescales the channels of a fused network so that they use 8 bits evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecls.export.fuse import FusedModel
from edgecls.export.graph import (
    Array,
    Weights,
    in_batches,
    is_depthwise,
    is_understood,
    one_or_all,
    per_output,
    sources_of,
    walk,
    with_weights,
)
from edgecls.export.quantization.perturb_images import PERTURBED_FRACTION, perturb_some

if TYPE_CHECKING:
    import keras

# Per layer: the smallest and the largest value of each output channel.
Ranges = dict[str, tuple[Array, Array]]

# Computed at once: 16 images of 224x224.
BATCH_PIXELS = 16 * 224 * 224
# Keeps a channel's largest value below the ReLU's ceiling: new images go a little beyond what was measured.
HEADROOM = 1.1
LARGEST_SCALE = 16.0
# A linear channel narrower than this fraction of the widest one is noise and is not widened further.
NARROWEST = 1e-3
# A convolution has one step for all channels it reads, so widening them costs its weights precision; a depthwise one
# has a step for each channel. 0.3 to 0.7 measured alike, 1 worse.
SHARED_STEP_EXPONENT = 0.7
# Times that `_balance` visits each group.
BALANCE_ROUNDS = 10
# A channel smaller than this fraction of the largest counts as this.
LEAST_RELATIVE = 1e-4
MOST_BALANCED = 256.0
# A channel that reaches this fraction of its ReLU's ceiling is clipped.
CLIPPED = 0.999


def equalize(fused: FusedModel, calibration: NDArray[np.uint8], *, per_tensor: bool = False) -> FusedModel:
    """Return a copy of `fused` with the same scores whose channels use the 8 bits of their tensor evenly.

    Cross-layer equalization is from Nagel et al. 2019 (arXiv:1906.04721), section 4.1, the exponent that balances
    activations and weights from Xiao et al. 2022 (arXiv:2211.10438). Linear channels that pointwise convolutions read
    are also centered on zero; the bias of those convolutions takes the offset.

    Args:
        fused: the network; it is not changed.
        calibration: uint8 (N, S, S, 1), 0..255: training images that ranges are measured on.
        per_tensor: True if weights too have one step per layer. Then the scales make the weights even, and not the
            activations: that measured better.
    """
    core = fused.core
    ranges = _measure_ranges(core, perturb_some(calibration, PERTURBED_FRACTION).astype(np.float32) - fused.pad_gray)
    sources = sources_of(core)
    weights: Weights = {
        layer.name: [np.asarray(w, np.float64) for w in layer.get_weights()] for layer in core.layers if layer.weights
    }
    groups = _groups(core, sources)
    for group in groups:
        if group.ceilings:
            if not per_tensor:
                _scale(group, _relu_scale(group, ranges), weights)
        elif _is_read_by_pixels(group):
            if not group.pads:
                _center(group, ranges, weights, sources)
            if not per_tensor:
                _scale(group, _linear_scale(group, ranges), weights)
    if per_tensor:
        _balance(groups, ranges, weights)
    return FusedModel(with_weights(core, weights), fused.pad_gray)


@dataclass(frozen=True, eq=False)
class _Group:
    """Layers whose outputs share one scale per channel, because no weights lie between them."""

    layers: list[keras.layers.Layer]
    readers: list[keras.layers.Layer]

    @property
    def ceilings(self) -> list[tuple[str, float | None]]:
        """The name of each ReLU and the value it clips at, or None."""
        import keras

        return [(layer.name, layer.max_value) for layer in self.layers if isinstance(layer, keras.layers.ReLU)]

    @property
    def pads(self) -> bool:
        """True if zeros are added to the outputs, so that zero must stay zero."""
        import keras

        return any(isinstance(layer, keras.layers.ZeroPadding2D) for layer in self.layers)


def _groups(core: keras.Model, sources: dict[str, list[str]]) -> list[_Group]:
    """Return the groups that may be rescaled: computed by linear layers only, read by layers with weights only."""
    from keras import layers as kinds

    shaping = (kinds.ZeroPadding2D, kinds.MaxPooling2D, kinds.GlobalAveragePooling2D, kinds.Flatten)

    def is_passing(layer: keras.layers.Layer) -> bool:
        # A ReLU that begins above zero does not scale with its input.
        return isinstance(layer, (kinds.ReLU, kinds.Add, *shaping)) and not getattr(layer, "threshold", 0)

    leader: dict[str, str] = {}
    for layer in core.layers:
        leader[layer.name] = layer.name
        if is_passing(layer):
            joined = {leader[name] for name in sources[layer.name]}
            leader |= {name: layer.name for name, old in leader.items() if old in joined}
    groups = []
    for name in dict.fromkeys(leader.values()):
        members = [layer for layer in core.layers if leader[layer.name] == name]
        readers = [
            layer
            for layer in core.layers
            if not is_passing(layer) and any(leader[source] == name for source in sources[layer.name])
        ]
        made = all(is_passing(layer) or is_understood(layer) for layer in members)
        if made and readers and all(map(is_understood, readers)):
            groups.append(_Group(members, readers))
    return groups


def _is_read_by_pixels(group: _Group) -> bool:
    return all(layer.kernel.shape[:2] == (1, 1) for layer in group.readers)


def _relu_scale(group: _Group, ranges: Ranges) -> Array:
    """Return how much each channel may grow: up to the ReLU's ceiling, or without one to the widest channel's range."""
    rooms = []
    for name, ceiling in group.ceilings:
        high = ranges[name][1] * HEADROOM
        rooms.append((ceiling or high.max()) / np.maximum(high, 1e-9))
    own_step = all(is_depthwise(layer) for layer in group.readers)
    scale = np.min(rooms, axis=0) ** (1.0 if own_step else SHARED_STEP_EXPONENT)
    return np.asarray(np.clip(scale, 1, LARGEST_SCALE), np.float64)


def _linear_scale(group: _Group, ranges: Ranges) -> Array:
    """Return the scales that make the channels' ranges equal in the tensor of the group where they are widest."""
    widths = [np.maximum(high, -low) for low, high in (ranges[layer.name] for layer in group.layers)]
    relative = np.max([width / max(width.max(), 1e-9) for width in widths], axis=0)
    return np.asarray(1 / np.maximum(relative, NARROWEST), np.float64)


def _balance(groups: list[_Group], ranges: Ranges, weights: Weights) -> None:
    """Scale all channels for weights with one step per layer.

    The scale of a channel makes the weights that write it and those that read it equally large within their layers, as
    in Nagel et al. 2019, as far as every ReLU clips as before. It changes what the neighbors of a group need, so they
    take turns.
    """
    chosen = [group for group in groups if group.ceilings or _is_read_by_pixels(group)]
    totals = [np.ones(_channels(group, weights)) for group in chosen]
    for _ in range(BALANCE_ROUNDS):
        for i, group in enumerate(chosen):
            low, high = _scale_bounds(group, ranges, len(totals[i]))
            total = np.clip(totals[i] * _balanced_scale(group, len(totals[i]), weights), low, high)
            _scale(group, total / totals[i], weights)
            totals[i] = total


def _balanced_scale(group: _Group, channels: int, weights: Weights) -> Array:
    """Return how much each channel is to grow."""
    written = [_largest(weights[layer.name][0], -1, channels) for layer in group.layers if layer.weights]
    read = [_largest(weights[layer.name][0], -2, channels) for layer in group.readers]
    writing, reading = (
        np.maximum(np.max([each / max(each.max(), 1e-30) for each in values], axis=0), LEAST_RELATIVE)
        for values in (written, read)
    )
    return np.asarray(np.sqrt(reading / writing))


def _largest(kernel: Array, axis: int, channels: int) -> Array:
    """Return the largest weight of each channel that a kernel writes (axis -1) or reads (-2)."""
    if kernel.ndim == 4 and kernel.shape[-1] == 1 and kernel.shape[-2] == channels:
        axis = -2
    return np.asarray(np.moveaxis(np.abs(kernel), axis, -1).reshape(-1, channels).max(0))


def _channels(group: _Group, weights: Weights) -> int:
    return next(len(weights[layer.name][1]) for layer in group.layers if layer.weights)


def _scale_bounds(group: _Group, ranges: Ranges, channels: int) -> tuple[Array, Array]:
    """Return the least and the largest scale of each channel: its ReLU must clip as before."""
    low, high = np.full(channels, 1 / MOST_BALANCED), np.full(channels, MOST_BALANCED)
    for name, ceiling in group.ceilings:
        if ceiling:
            top = np.maximum(ranges[name][1], 1e-9)
            high = np.minimum(high, np.maximum(ceiling / (HEADROOM * top), 1))
            low = np.where(top >= ceiling * CLIPPED, 1, low)
    return low, high


def _center(group: _Group, ranges: Ranges, weights: Weights, sources: dict[str, list[str]]) -> None:
    """Move the middle of every linear channel to zero and undo it in the bias of the layers that read it."""
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
        (kernel, bias), move = weights[layer.name], moves[sources[layer.name][0]]
        weights[layer.name][1] = bias - (move * kernel[0, 0, :, 0] if is_depthwise(layer) else move @ kernel[0, 0])


def _scale(group: _Group, scale: Array, weights: Weights) -> None:
    """Multiply the group's channels by `scale` and divide the weights that read them by it."""
    for layer in group.layers:
        if layer.weights:
            kernel, bias = weights[layer.name]
            weights[layer.name] = [kernel * per_output(layer, scale), bias * scale]
    for layer in group.readers:
        kernel = weights[layer.name][0]
        # Input channels are the third axis of both kinds of convolution; after Flatten they are last within each pixel.
        divisor = scale[:, None] if kernel.ndim == 4 else np.tile(scale, len(kernel) // len(scale))[:, None]
        weights[layer.name][0] = kernel / divisor


def _measure_ranges(core: keras.Model, images: Array) -> Ranges:
    import tensorflow as tf

    ranges: Ranges = {}

    def step(layer: keras.layers.Layer, inputs: list[Any]) -> Any:
        values = layer(one_or_all(inputs))
        axes = list(range(values.ndim - 1))
        low, high = tf.reduce_min(values, axes).numpy(), tf.reduce_max(values, axes).numpy()
        old_low, old_high = ranges.get(layer.name, (low, high))
        ranges[layer.name] = np.minimum(low, old_low), np.maximum(high, old_high)
        return values

    for batch in in_batches(images, BATCH_PIXELS):
        walk(core, tf.constant(batch), step)
    return ranges
