"""Rounds weights to the grid that converters choose, so that the errors of one make up for those of another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.graph import Array, draw_places, is_depthwise

if TYPE_CHECKING:
    import keras

# What a layer reads, at most that many places of it: more measured no better.
PLACES = 20_000
# The inputs' products are a square matrix. Only the hidden layer of the lecture's flatten head has more inputs.
MOST_INPUTS = 2048
# Added to the diagonal, as a share of its mean. The paper's 0.01 trusts a few dozen smooth images too far: it made
# clothes worse than plain rounding. 0.1 to 0.5 measured alike, and better than plain rounding on clothes and tiles.
DAMPING = 0.2
# A depthwise kernel of 3x3 weights can be rounded in 512 ways, and all are tried. Larger ones have too many.
MOST_TAPS = 9
# 20,000 places show well how nine weights go together; 0.2 measured worse on clothes.
TAPS_DAMPING = 0.01


def round_weights(layer: keras.layers.Layer, inputs: Sequence[Any], weight_steps: int) -> Array:
    """Return the layer's kernel on the converters' grid, so rounded that what the layer gives changes least.

    Weights that multiply one pixel are rounded one input channel after the other, and what the rounding of one adds to
    the output is taken off by those that are still to come, as far as the inputs go together: GPTQ, Frantar et al. 2022
    (arXiv:2210.17323), algorithm 1, the channels of most power first. A depthwise kernel's weights go up or down in the
    one of all ways that suits the images best: one that finds edges must go on adding up to what it did, or smooth gray
    becomes an edge. In the first of MobileNetV2, two such kernels caused most of what clothes lost by rounding.

    Args:
        layer: a convolution or a Dense layer.
        inputs: what it reads in the quantized network, batches of float32 (N, ..., I).
        weight_steps: steps of the grid from zero to a channel's largest weight.
    """
    kernel = layer.get_weights()[0]
    if is_depthwise(layer) and kernel.shape[0] * kernel.shape[1] <= MOST_TAPS:
        taps = kernel.reshape(-1, kernel.shape[2]).T.astype(np.float64)
        return _round_all_ways(taps, _tap_covariance(layer, inputs), weight_steps).T.reshape(kernel.shape)
    if is_depthwise(layer) or kernel.size != kernel.shape[-2] * kernel.shape[-1] or kernel.shape[-2] > MOST_INPUTS:
        return round_to_grid(layer, kernel, weight_steps)
    matrix = kernel.reshape(kernel.shape[-2:]).astype(np.float64)
    return _round_with_feedback(matrix, _covariance(inputs), weight_steps).reshape(kernel.shape)


def round_to_grid(layer: keras.layers.Layer, kernel: Array, weight_steps: int) -> Array:
    """Return `kernel` on the grid that converters choose: for each output channel, even steps up to the largest weight.

    Rounding again changes nothing, so the converters keep these weights.
    """
    last = 2 if is_depthwise(layer) else kernel.ndim - 1
    axes = tuple(axis for axis in range(kernel.ndim) if axis != last)
    step = np.maximum(np.abs(kernel).max(axes, keepdims=True), 1e-12) / weight_steps
    return np.asarray(np.round(kernel / step) * step)


def _covariance(inputs: Sequence[Any]) -> Array:
    """Return how the channels of `inputs` go together, float64 (I, I)."""
    (values,) = draw_places([(batch,) for batch in inputs], PLACES)
    # Their means cause an offset alone, which is corrected after.
    values -= values.mean(0)
    return np.asarray(values.T @ values / len(values))


def _damp(covariance: Array, share: float) -> Array:
    """Return `covariance` with `share` of its diagonal's mean added to the diagonal."""
    return np.asarray(covariance + (share * np.mean(np.diag(covariance)) + 1e-12) * np.eye(len(covariance)))


def _round_with_feedback(kernel: Array, covariance: Array, weight_steps: int) -> Array:
    """Return `kernel` (I, O) on the grid."""
    largest, outputs = np.abs(kernel).argmax(0), np.arange(kernel.shape[1])
    ends = np.sign(kernel[largest, outputs]) * weight_steps
    step = np.maximum(np.abs(kernel).max(0), 1e-12) / weight_steps
    order = np.argsort(-np.diag(covariance))
    damped = _damp(covariance, DAMPING)
    # Its rows say by how much the weights to come make up for one that is rounded now.
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, rounded = kernel[order], np.empty_like(kernel)
    for place, channel in enumerate(order):
        steps = np.clip(np.round(left[place] / step), -weight_steps, weight_steps)
        # The converter takes its step from the largest weight: that one stays.
        rounded[channel] = np.where(largest == channel, ends, steps) * step
        error = (left[place] - rounded[channel]) / factor[place, place]
        left[place + 1 :] -= np.outer(factor[place, place + 1 :], error)
    return rounded


def _tap_covariance(layer: keras.layers.Layer, inputs: Sequence[Any]) -> Array:
    """Return how the pixels under a depthwise kernel of T weights go together, float64 (C, T, T)."""
    random = np.random.default_rng(0)
    height, width = layer.kernel_size
    edge = [(0, 0), (height // 2, height // 2), (width // 2, width // 2), (0, 0)]
    total, square, places = np.zeros(()), np.zeros(()), 0
    for batch in (each.numpy() for each in inputs):
        batch = np.pad(batch, edge) if layer.padding == "same" else batch
        count = min(-(-PLACES // len(inputs)), batch[..., 0].size)
        image, top, left = (
            random.integers(0, limit, count)
            for limit in (len(batch), batch.shape[1] - height + 1, batch.shape[2] - width + 1)
        )
        taps = [batch[image, top + row, left + column] for row in range(height) for column in range(width)]
        values = np.stack(taps).transpose(2, 0, 1).astype(np.float64)
        total, square, places = total + values.sum(2), square + values @ values.transpose(0, 2, 1), places + count
    mean = np.asarray(total / places)
    # Their means cause an offset alone, which is corrected after.
    return np.asarray(square / places - mean[:, :, None] * mean[:, None, :])


def _round_all_ways(kernel: Array, covariance: Array, weight_steps: int) -> Array:
    """Return `kernel` (C, T) on the grid, each weight rounded up or down as the channel's `covariance` (C, T, T) asks.

    Another slope of a channel's output costs nothing: it is corrected after, too.
    """
    ways = np.array(list(itertools.product((0, 1), repeat=kernel.shape[1])))
    rounded = np.empty_like(kernel)
    for channel, (weights, together) in enumerate(zip(kernel, covariance, strict=True)):
        largest = np.abs(weights).argmax()
        step = max(abs(weights[largest]), 1e-12) / weight_steps
        tried = np.clip(np.floor(weights / step) + ways, -weight_steps, weight_steps) * step
        # The converter takes its step from the largest weight: that one stays.
        tried[:, largest] = weights[largest]
        damped = _damp(together, TAPS_DAMPING)
        aligned, power = tried @ damped @ weights, np.einsum("wt,ts,ws->w", tried, damped, tried)
        rounded[channel] = tried[np.argmax(aligned**2 / np.maximum(power, 1e-300) * np.sign(aligned))]
    return rounded
