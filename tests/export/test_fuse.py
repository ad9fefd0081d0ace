from __future__ import annotations

from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
from random_networks import random_network

from edgecls.export.fuse import FusedModel, fuse

LAYOUTS, HEADS, SIZES, ALPHAS = ("keras", "torch"), ("gap", "flatten"), (32, 33, 48, 64), (0.35, 1.0)
# Padding depends on layout and size, so these are all tried; head, width and a learned gray_to_rgb take turns.
QUICK = [
    (layout, size, ALPHAS[1] if size == 33 else ALPHAS[0], HEADS[(i + j) % 2], i == j)
    for i, layout in enumerate(LAYOUTS)
    for j, size in enumerate((32, 33))
]
PAD_GRAY = {"keras": 128, "torch": 114}
# Float32 rounds at 6e-8; fifty layers of sums in another order leave about a hundred times that.
SCORES_TOLERANCE, FEATURES_TOLERANCE = 1e-5, 1e-4


def edge_images(size: int, pad_gray: int) -> np.ndarray:
    """Images that a wrong padding would show on: uint8 (N, S, S, 1)."""
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (2, size, size, 1))
    framed = np.full((4, size, size, 1), 255)
    framed[0, 1:-1, 1:-1] = 0
    framed[1, 2:, 2:] = 0
    framed[2, :-1, :-1] = 0
    framed[3] = rng.integers(100, 130, framed[3].shape)
    framed[3, -2:], framed[3, :, -1] = 0, 255
    plain = np.stack([np.full((size, size, 1), gray) for gray in (0, 255, pad_gray)])
    return np.concatenate([noise, framed, plain]).astype(np.uint8)


def compare(layout: str, size: int, alpha: float, head: str, learned: bool) -> None:
    model = random_network(layout, size, alpha, head, spread=0.5, learned=learned)
    images = edge_images(size, PAD_GRAY[layout])
    expected = run_both(model, images)
    # The images must not look the same to the network, or nothing would be compared.
    assert np.ptp(expected[0], axis=0).max() > 0.1
    for in_blocks in (False, True):
        fused = fuse(model, in_blocks=in_blocks)
        assert fused.pad_gray == PAD_GRAY[layout]
        compare_with(expected, fused, images)
        kernel = check_layers(fused.core, model)
        blocks = size % 2 == 0 and (in_blocks or learned)
        side = (3 if learned else 2) if blocks else (5 if learned else 3)
        # As small as can be: what gray_to_rgb looks at, and the stem's 3x3.
        assert kernel.shape[:3] == (side, side, 4 if blocks else 1)


def compare_with(expected: tuple[np.ndarray, np.ndarray], fused: FusedModel, images: np.ndarray) -> None:
    expected_features, expected_scores = expected
    features, scores = run_both(fused.core, images.astype(np.float32) - fused.pad_gray)
    assert np.abs(features - expected_features).max() <= FEATURES_TOLERANCE * np.abs(expected_features).max()
    assert np.abs(scores - expected_scores).max() <= SCORES_TOLERANCE


def run_both(model: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    both = keras.Model(model.input, [model.get_layer("features").output, model.output])
    features, scores = both(images, training=False)
    return features.numpy(), scores.numpy()


def check_layers(core: Any, model: Any) -> np.ndarray:
    """Return the kernel of the stem."""
    gone = (keras.layers.BatchNormalization, keras.layers.Rescaling, keras.layers.Dropout)
    assert not [layer.name for layer in core.layers if isinstance(layer, gone)]
    names = {layer.name for layer in core.layers}
    assert not names & {"gray_to_rgb", "center", "pad_image"}
    # One convolution on the image itself, or on its blocks of 2x2 pixels, which is the same numbers in another order.
    first, *others = [layer for layer in core.layers if layer.weights]
    assert isinstance(first, keras.layers.Conv2D)
    height, width, channels, filters = first.get_weights()[0].shape
    assert (height, filters) == (width, model.get_layer("Conv1").filters)
    before = core.layers[1 : core.layers.index(first)]
    names_before = [layer.name for layer in before if layer.name != "pad_stem"]
    assert (channels, names_before) in ((1, []), (4, ["space_to_depth"]))
    assert len(others) == len([layer for layer in model.layers if layer.weights and layer.name in names]) - 1
    return np.asarray(first.get_weights()[0])


@pytest.mark.parametrize(("layout", "size", "alpha", "head", "learned"), QUICK)
def test_fused_network_gives_the_same_scores(layout: str, size: int, alpha: float, head: str, learned: bool) -> None:
    compare(layout, size, alpha, head, learned)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "size", "alpha", "head", "learned"),
    [case for case in product(LAYOUTS, SIZES, ALPHAS, HEADS, (False, True)) if case not in QUICK],
)
def test_fused_network_gives_the_same_scores_in_every_shape(
    layout: str, size: int, alpha: float, head: str, learned: bool
) -> None:
    compare(layout, size, alpha, head, learned)


def test_the_comparison_notices_a_wrong_border() -> None:
    """Padding with black instead of the padding gray must fail, or the tests above prove nothing."""
    model = random_network("keras", 32, 0.35, "gap")
    fused = fuse(model)
    images = edge_images(32, round(fused.pad_gray))
    expected, _ = run_both(model, images)
    wrong, _ = run_both(fused.core, images.astype(np.float32))
    assert np.abs(wrong - expected).max() > 100 * FEATURES_TOLERANCE * np.abs(expected).max()


def test_a_stem_that_sees_nothing_is_fused_too() -> None:
    """A gray_to_rgb whose training failed may be zero everywhere."""
    model = random_network("keras", 32, 0.35, "gap")
    kernel, bias = model.get_layer("gray_to_rgb").get_weights()
    model.get_layer("gray_to_rgb").set_weights([np.zeros_like(kernel), bias])
    images = edge_images(32, PAD_GRAY["keras"])
    for in_blocks in (False, True):
        compare_with(run_both(model, images), fuse(model, in_blocks=in_blocks), images)
