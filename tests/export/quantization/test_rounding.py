"""Rounding of weights to the converters' grid, the errors of one made up for by others."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecls.boards.targets import WEIGHT_STEPS
from edgecls.export.quantization import rounding
from edgecls.export.quantization.rounding import round_to_grid, round_weights

INPUTS, OUTPUTS = 12, 7


def pointwise(kernel: np.ndarray) -> keras.layers.Layer:
    """A convolution of one pixel with this kernel (I, O)."""
    layer = keras.layers.Conv2D(kernel.shape[1], 1, use_bias=False)
    layer.build((None, 4, 4, kernel.shape[0]))
    layer.set_weights([kernel[None, None]])
    return layer


def correlated(random: np.random.Generator, images: int = 40, inputs: int = INPUTS, factors: int = 3) -> np.ndarray:
    """Inputs float32 (images, 4, 4, inputs) that go together, as the channels of a network do."""
    mixed = random.normal(size=(images, 4, 4, factors)) @ random.normal(size=(factors, inputs))
    return np.asarray(mixed + 0.05 * random.normal(size=(images, 4, 4, inputs)) + 2, np.float32)


def output_error(layer: keras.layers.Layer, rounded: np.ndarray, inputs: np.ndarray) -> float:
    """Root mean square of what rounding adds to the output, its mean apart."""
    added = inputs @ (rounded - layer.get_weights()[0])[0, 0]
    return float(added.std(axis=(0, 1, 2)).mean())


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([7, 64, WEIGHT_STEPS]))
def test_the_kernel_is_on_the_grid_and_its_largest_weights_stay(seed: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    layer = pointwise(random.normal(size=(INPUTS, OUTPUTS)) * 10.0 ** random.integers(-3, 3, OUTPUTS))
    kernel = layer.get_weights()[0]
    rounded = round_weights(layer, [tf.constant(correlated(random))], steps)
    largest = np.abs(kernel).max(axis=(0, 1, 2))
    np.testing.assert_allclose(np.abs(rounded).max(axis=(0, 1, 2)), largest, rtol=1e-6)
    in_steps = rounded / (largest / steps)
    np.testing.assert_allclose(in_steps, np.round(in_steps), atol=1e-3)
    np.testing.assert_allclose(round_to_grid(layer, rounded.astype(np.float32), steps), rounded, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_images_it_never_saw_get_a_smaller_error_than_by_rounding_each_weight_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    layer = pointwise(random.normal(size=(INPUTS, OUTPUTS)))
    inputs = correlated(random)
    seen, unseen = inputs[:20], inputs[20:]
    plain = round_to_grid(layer, layer.get_weights()[0], 15)
    rounded = round_weights(layer, [tf.constant(seen)], 15)
    assert output_error(layer, rounded, unseen) < 0.7 * output_error(layer, plain, unseen)


def test_inputs_that_do_not_go_together_leave_each_weight_at_its_nearest_step() -> None:
    random = np.random.default_rng(0)
    layer = pointwise(random.normal(size=(4, OUTPUTS)))
    # Each image lights one channel alone, by as much above the mean as the others are below theirs.
    inputs = np.zeros((400, 1, 1, 4), np.float32)
    inputs[np.arange(400), 0, 0, np.arange(400) % 4] = np.where(np.arange(400) // 4 % 2, 1, -1)
    plain = round_to_grid(layer, layer.get_weights()[0], 15)
    np.testing.assert_allclose(round_weights(layer, [tf.constant(inputs)], 15), plain, rtol=1e-6)


def depthwise(kernel: np.ndarray) -> keras.layers.Layer:
    """A depthwise convolution with this kernel (H, W, C)."""
    layer = keras.layers.DepthwiseConv2D(kernel.shape[:2], use_bias=False)
    layer.build((None, 8, 8, kernel.shape[2]))
    layer.set_weights([kernel[..., None]])
    return layer


def smooth(random: np.random.Generator, images: int, channels: int) -> np.ndarray:
    """Images float32 (images, 8, 8, channels), each of nearly one gray."""
    return np.asarray(random.uniform(0, 6, (images, 1, 1, 1)) + random.normal(0, 0.02, (images, 8, 8, channels)), "f")


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([31, WEIGHT_STEPS]))
def test_an_edge_detector_stays_blind_to_smooth_gray(seed: int, steps: int) -> None:
    random = np.random.default_rng(seed)
    kernel = random.normal(size=(3, 3, 32))
    layer = depthwise(kernel - kernel.mean((0, 1)))
    seen, unseen = smooth(random, 40, 32), smooth(random, 40, 32)
    exact = layer(unseen).numpy()

    def error(rounded: np.ndarray) -> float:
        layer.set_weights([rounded])
        return float((layer(unseen).numpy() - exact).std(axis=(0, 1, 2)).mean())

    original = layer.get_weights()[0]
    plain, rounded = round_to_grid(layer, original, steps), round_weights(layer, [tf.constant(seen)], steps)
    np.testing.assert_allclose(round_to_grid(layer, rounded.astype(np.float32), steps), rounded, rtol=1e-5, atol=1e-7)
    assert np.abs(rounded - original).max() <= np.abs(original).max() / steps
    assert error(rounded) < 0.6 * error(plain)


def test_a_channel_that_never_lights_is_rounded_to_the_nearest_steps() -> None:
    layer = depthwise(np.random.default_rng(0).normal(size=(3, 3, 2)))
    rounded = round_weights(layer, [tf.zeros((4, 8, 8, 2))], WEIGHT_STEPS)
    np.testing.assert_allclose(rounded, round_to_grid(layer, layer.get_weights()[0], WEIGHT_STEPS), rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (keras.layers.DepthwiseConv2D(5), (None, 8, 8, 5)),
        (keras.layers.Conv2D(4, 3), (None, 8, 8, 5)),
        (keras.layers.Dense(4), (None, 30)),
    ],
)
def test_other_kernels_and_very_wide_ones_are_rounded_weight_by_weight(
    layer: keras.layers.Layer, shape: tuple[int | None, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "MOST_INPUTS", 29)
    layer.build(shape)
    rounded = round_weights(layer, [tf.random.normal((6, *shape[1:]), seed=1)], WEIGHT_STEPS)
    np.testing.assert_array_equal(rounded, round_to_grid(layer, layer.get_weights()[0], WEIGHT_STEPS))


@pytest.mark.parametrize("make", [pointwise, depthwise])
def test_one_grid_for_the_layer_keeps_its_largest_weight(make: Callable[[np.ndarray], keras.layers.Layer]) -> None:
    random = np.random.default_rng(3)
    shape = (3, 3, 6) if make is depthwise else (INPUTS, 6)
    layer = make(random.normal(size=shape) * 2.0 ** -np.arange(6))
    seen = smooth(random, 20, 6) if make is depthwise else correlated(random)
    rounded = round_weights(layer, [tf.constant(seen)], 15, per_tensor=True)
    step = np.abs(layer.get_weights()[0]).max() / 15
    np.testing.assert_allclose(np.abs(rounded).max(), 15 * step, rtol=1e-6)
    np.testing.assert_allclose(rounded / step, np.round(rounded / step), atol=1e-4)
