"""Weight rounding to the converters' int8 grid, in which the errors of weights compensate each other (GPTQ-like)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.graph import Array, damping, is_depthwise, sample_positions

if TYPE_CHECKING:
    import keras

# Positions of a layer's input that are used at most; more measured no better.
POSITIONS = 20_000
# The covariance is a square matrix of this size. Only the hidden layer of the flatten head has more inputs.
MOST_INPUTS = 2048
# The paper's 0.01 overfits a few dozen smooth images and made clothes worse than plain rounding. 0.1 to 0.5 measured
# alike, and better than plain rounding on clothes and tiles.
DAMPING = 0.2
# A depthwise kernel of 3x3 weights can be rounded in 512 ways, and all are tried. A larger one has too many.
MOST_TAPS = 9
# 20,000 positions are many for a covariance of nine weights; 0.2 measured worse on clothes.
TAPS_DAMPING = 0.01


def round_weights(
    layer: keras.layers.Layer, inputs: Sequence[Any], weight_steps: int, *, per_tensor: bool = False
) -> Array:
    """Return the layer's kernel on the converters' grid, rounded so that the layer's output changes least.

    A pointwise kernel is rounded one input channel at a time, and the channels that are not rounded yet compensate the
    error as far as the inputs correlate: GPTQ, Frantar et al. 2022 (arXiv:2210.17323), algorithm 1, the channels of
    most power first. For a depthwise kernel all combinations of rounding up and down are tried: the sum of an edge
    detector's weights must not change, or smooth gray becomes an edge. Two such kernels in the first depthwise layer of
    MobileNetV2 caused most of what clothes lost by rounding.

    Args:
        layer: a convolution or a Dense layer.
        inputs: its inputs in the quantized network, batches of float32 (N, ..., I).
        weight_steps: steps of the grid from zero to a channel's largest weight.
        per_tensor: True if the grid is that of the layer's largest weight.
    """
    kernel = layer.get_weights()[0]
    steps = _grid(layer, kernel, weight_steps, per_tensor)
    if is_depthwise(layer) and kernel.shape[0] * kernel.shape[1] <= MOST_TAPS:
        taps = kernel.reshape(-1, kernel.shape[2]).T.astype(np.float64)
        rounded = _round_all_ways(taps, _tap_covariance(layer, inputs), steps.reshape(-1), weight_steps)
        return rounded.T.reshape(kernel.shape)
    if is_depthwise(layer) or kernel.size != kernel.shape[-2] * kernel.shape[-1] or kernel.shape[-2] > MOST_INPUTS:
        return round_to_grid(layer, kernel, weight_steps, per_tensor=per_tensor)
    matrix = kernel.reshape(kernel.shape[-2:]).astype(np.float64)
    return _round_with_feedback(matrix, _covariance(inputs), steps.reshape(-1), weight_steps).reshape(kernel.shape)


def round_to_grid(layer: keras.layers.Layer, kernel: Array, weight_steps: int, *, per_tensor: bool = False) -> Array:
    """Return `kernel` on the converters' grid: even steps up to the largest weight of each output channel or of all.

    Rounding again changes nothing, so the converters keep these weights.
    """
    step = _grid(layer, kernel, weight_steps, per_tensor)
    return np.asarray(np.round(kernel / step) * step)


def _grid(layer: keras.layers.Layer, kernel: Array, weight_steps: int, per_tensor: bool) -> Array:
    """Return the step of each output channel, in a shape that divides the kernel."""
    last = 2 if is_depthwise(layer) else kernel.ndim - 1
    axes = tuple(axis for axis in range(kernel.ndim) if axis != last)
    largest = np.abs(kernel).max(axes, keepdims=True)
    largest = np.full_like(largest, largest.max()) if per_tensor else largest
    return np.asarray(np.maximum(largest, 1e-12) / weight_steps)


def _covariance(inputs: Sequence[Any]) -> Array:
    """Return the covariance of the channels of `inputs`, float64 (I, I)."""
    (values,) = sample_positions([(batch,) for batch in inputs], POSITIONS)
    # The means cause only an offset, which bias correction removes.
    values -= values.mean(0)
    return np.asarray(values.T @ values / len(values))


def _damp(covariance: Array, fraction: float) -> Array:
    return np.asarray(covariance + damping(covariance, fraction) * np.eye(len(covariance)))


def _round_with_feedback(kernel: Array, covariance: Array, step: Array, weight_steps: int) -> Array:
    """Return `kernel` (I, O) on the grid of the steps (O,)."""
    # The converter derives its step from the largest weight, so that one does not change.
    is_largest = np.abs(kernel) >= step * weight_steps * (1 - 1e-6)
    ends = np.sign(kernel) * weight_steps
    order = np.argsort(-np.diag(covariance))
    damped = _damp(covariance, DAMPING)
    # Each row says by how much the remaining weights compensate for one that is rounded now.
    factor = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left, rounded = kernel[order], np.empty_like(kernel)
    for i, channel in enumerate(order):
        steps = np.clip(np.round(left[i] / step), -weight_steps, weight_steps)
        rounded[channel] = np.where(is_largest[channel], ends[channel], steps) * step
        error = (left[i] - rounded[channel]) / factor[i, i]
        left[i + 1 :] -= np.outer(factor[i, i + 1 :], error)
    return rounded


def _tap_covariance(layer: keras.layers.Layer, inputs: Sequence[Any]) -> Array:
    """Return the covariance of the pixels under a depthwise kernel of T weights, float64 (C, T, T)."""
    random = np.random.default_rng(0)
    height, width = layer.kernel_size
    above, before = (height // 2, width // 2) if layer.padding == "same" else (0, 0)
    total, square, positions = np.zeros(()), np.zeros(()), 0
    for batch in (each.numpy() for each in inputs):
        rows, columns = batch.shape[1:3]
        count = min(-(-POSITIONS // len(inputs)), len(batch) * (rows + 2 * above) * (columns + 2 * before))
        image, top, left = (
            random.integers(0, limit, count)
            for limit in (len(batch), rows + 2 * above - height + 1, columns + 2 * before - width + 1)
        )
        taps = [_pixels(batch, image, top + y - above, left + x - before) for y in range(height) for x in range(width)]
        values = np.stack(taps).transpose(2, 0, 1).astype(np.float64)
        total, square = total + values.sum(2), square + values @ values.transpose(0, 2, 1)
        positions += count
    mean = np.asarray(total / positions)
    return np.asarray(square / positions - mean[:, :, None] * mean[:, None, :])


def _pixels(batch: Array, image: Array, row: Array, column: Array) -> Array:
    """Return pixels of `batch` (N, H, W, C), (P, C); zeros where they are in the padding."""
    rows, columns = batch.shape[1:3]
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
    found = batch[image, row.clip(0, rows - 1), column.clip(0, columns - 1)]
    return np.asarray(found * inside[:, None])


def _round_all_ways(kernel: Array, covariance: Array, steps: Array, weight_steps: int) -> Array:
    """Return `kernel` (C, T) on the grid of the steps (C,), each weight up or down, best for `covariance` (C, T, T).

    A changed slope of a channel's output does not count: bias correction removes it.
    """
    ways = np.array(list(itertools.product((0, 1), repeat=kernel.shape[1])))
    rounded = np.empty_like(kernel)
    for channel, (weights, together, step) in enumerate(zip(kernel, covariance, steps, strict=True)):
        largest = np.abs(weights) >= step * weight_steps * (1 - 1e-6)
        tried = np.clip(np.floor(weights / step) + ways, -weight_steps, weight_steps) * step
        # The converter derives its step from the largest weight, so that one does not change.
        tried[:, largest] = weights[largest]
        damped = _damp(together, TAPS_DAMPING)
        aligned, power = tried @ damped @ weights, np.einsum("wt,ts,ws->w", tried, damped, tried)
        rounded[channel] = tried[np.argmax(aligned**2 / np.maximum(power, 1e-300) * np.sign(aligned))]
    return rounded
