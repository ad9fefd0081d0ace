"""Rounds weights to the grid that converters choose, so that the errors of one make up for those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls.export.layer_walk import Array, is_depthwise

if TYPE_CHECKING:
    import keras

# What a layer reads, at most that many places of it: more measured no better.
PLACES = 20_000
# The inputs' products are a square matrix. Only the hidden layer of the lecture's flatten head has more inputs.
MOST_INPUTS = 2048
# Added to the diagonal, as a share of its mean. The paper's 0.01 trusts a few dozen smooth images too far: it made
# clothes worse than plain rounding. 0.1 to 0.5 measured alike, and better than plain rounding on clothes and tiles.
DAMPING = 0.2


def round_weights(layer: keras.layers.Layer, inputs: Any, weight_steps: int) -> Array:
    """Return the layer's kernel on the converters' grid.

    Weights that multiply one pixel are rounded one input channel after the other, and what the rounding of one adds to
    the output is taken off by those that are still to come, as far as the inputs go together: GPTQ, Frantar et al. 2022
    (arXiv:2210.17323), algorithm 1, the channels of most power first. Depthwise kernels and the first one have nine
    weights an output and gained nothing by it.

    Args:
        layer: a convolution or a Dense layer.
        inputs: what it reads in the quantized network, float32 (N, ..., I).
        weight_steps: steps of the grid from zero to a channel's largest weight.
    """
    kernel = layer.get_weights()[0]
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


def _covariance(inputs: Any) -> Array:
    """Return how the channels of `inputs` go together, float64 (I, I)."""
    import tensorflow as tf

    rows = tf.reshape(inputs, (-1, inputs.shape[-1]))
    count = len(rows)
    chosen = np.random.default_rng(0).choice(count, min(count, PLACES), replace=False)
    values = tf.gather(rows, chosen).numpy().astype(np.float64)
    # Their means cause an offset alone, which is corrected after.
    values -= values.mean(0)
    return np.asarray(values.T @ values / len(values))


def _round_with_feedback(kernel: Array, covariance: Array, weight_steps: int) -> Array:
    """Return `kernel` (I, O) on the grid."""
    largest, outputs = np.abs(kernel).argmax(0), np.arange(kernel.shape[1])
    ends = np.sign(kernel[largest, outputs]) * weight_steps
    step = np.maximum(np.abs(kernel).max(0), 1e-12) / weight_steps
    order = np.argsort(-np.diag(covariance))
    damped = covariance + (DAMPING * np.mean(np.diag(covariance)) + 1e-12) * np.eye(len(covariance))
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
