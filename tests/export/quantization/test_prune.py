from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from random_networks import core_scores, diverse_images, random_network

from edgecls.export.fuse import FusedModel, fuse
from edgecls.export.graph import with_weights
from edgecls.export.quantization import prune as pruning
from edgecls.export.quantization.prune import STEP, prune

SIZE = 48
# Of block 2: 48 hidden channels at 12x12 positions.
MAKER, FILTER, READER = "block_2_expand", "block_2_depthwise", "block_2_project"
SPARE, STAYS = np.arange(0, 48, 3), np.arange(1, 48, 3)
# Random networks need their channels: at this limit, only those are removed that cost nothing.
NEXT_TO_NOTHING = 0.01


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return diverse_images(96, SIZE, np.random.default_rng(4))


@pytest.fixture(scope="module")
def network() -> FusedModel:
    return fuse(random_network("keras", SIZE, 0.35, "gap"), in_blocks=True)


def with_dead_channels(network: FusedModel) -> FusedModel:
    """Every third hidden channel of the block is never above zero."""
    kernel, bias = network.core.get_layer(MAKER).get_weights()
    bias[SPARE] = -1e4
    return FusedModel(with_weights(network.core, {MAKER: [kernel, bias]}), network.pad_gray)


def with_twins(network: FusedModel) -> FusedModel:
    """Every third hidden channel of the block repeats another one."""
    weights = {name: network.core.get_layer(name).get_weights() for name in (MAKER, FILTER)}
    for name, axis in ((MAKER, 3), (FILTER, 2)):
        kernel, bias = weights[name]
        np.moveaxis(kernel, axis, 0)[SPARE] = np.moveaxis(kernel, axis, 0)[STAYS]
        bias[SPARE] = bias[STAYS]
    return FusedModel(with_weights(network.core, weights), network.pad_gray)


def widths(fused: FusedModel) -> dict[str, int]:
    layers = [layer for layer in fused.core.layers if isinstance(layer, keras.layers.DepthwiseConv2D)]
    return {layer.name: int(layer.kernel.shape[2]) for layer in layers}


def divergence(fused: FusedModel, reference: FusedModel, images: np.ndarray) -> float:
    wanted, given = core_scores(reference, images), core_scores(fused, images)
    return float((wanted * np.log(wanted / given)).sum(1).mean())


def test_dead_channels_are_removed_and_no_score_changes(network: FusedModel, images: np.ndarray) -> None:
    dead = with_dead_channels(network)
    pruned = prune(dead, images[:64], NEXT_TO_NOTHING)
    assert widths(dead)[FILTER] == 48
    assert widths(pruned)[FILTER] == 32
    np.testing.assert_allclose(core_scores(pruned, images[64:]), core_scores(dead, images[64:]), atol=1e-3)


def test_the_kept_channels_replace_the_removed_ones(network: FusedModel, images: np.ndarray) -> None:
    twins = with_twins(network)
    pruned = prune(twins, images[:64], NEXT_TO_NOTHING)
    assert widths(pruned)[FILTER] == 32
    assert divergence(pruned, twins, images[64:]) < 1e-4
    # Removing them without fitting the others changes the scores.
    kernel, bias = twins.core.get_layer(READER).get_weights()
    kernel[:, :, SPARE] = 0
    without = FusedModel(with_weights(twins.core, {READER: [kernel, bias]}), twins.pad_gray)
    assert divergence(without, twins, images[64:]) > 1e-2


def test_the_divergence_stays_below_the_maximum(network: FusedModel, images: np.ndarray) -> None:
    narrow, wide = (prune(network, images[:64], max_kl) for max_kl in (10, 4))
    full = widths(network)
    for pruned in (narrow, wide):
        assert all(width == full[name] or width % STEP == 0 for name, width in widths(pruned).items())
    saved_narrow, saved_wide = (
        sum(full[name] - width for name, width in widths(pruned).items()) for pruned in (narrow, wide)
    )
    assert saved_narrow > saved_wide > 0
    lost_narrow, lost_wide = (divergence(pruned, network, images[64:]) for pruned in (narrow, wide))
    assert 0 < lost_wide < 4
    assert lost_wide < lost_narrow < 10


def test_the_network_given_is_left_alone(network: FusedModel, images: np.ndarray) -> None:
    before = [values.copy() for values in network.core.get_weights()]
    prune(network, images[:16], 10)
    assert all(np.array_equal(old, new) for old, new in zip(before, network.core.get_weights(), strict=True))


def test_nothing_to_do_gives_the_network_back(network: FusedModel, images: np.ndarray) -> None:
    assert prune(network, images, 0) is network
    image = keras.Input((SIZE, SIZE, 1), batch_size=1)
    plain = keras.layers.Conv2D(8, 3)(image)
    scores = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(plain))
    without_blocks = FusedModel(keras.Model(image, scores), 0)
    assert prune(without_blocks, images) is without_blocks


def test_channels_with_too_few_positions_are_kept(network: FusedModel, images: np.ndarray) -> None:
    """Twelve images show 108 positions of a layer of 144 channels: any could be expressed by the others."""
    full, pruned = widths(network), widths(prune(network, images[:12], 1000))
    assert pruned["expanded_conv_depthwise"] == full["expanded_conv_depthwise"] == 16
    assert pruned["block_1_depthwise"] < full["block_1_depthwise"]
    late = [name for name in full if name.startswith(("block_7", "block_10", "block_16"))]
    assert len(late) == 3
    assert all(pruned[name] == full[name] for name in late)


def test_perturbed_images_keep_their_scores(network: FusedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    clean = np.broadcast_to(rng.integers(60, 200, (64, 1, 1, 1)), (64, SIZE, SIZE, 1)).astype(np.uint8)
    noisy = np.clip(clean[:24] + rng.normal(0, 8, (24, SIZE, SIZE, 1)), 0, 255).astype(np.uint8)
    perturbed = divergence(prune(network, clean, 2), network, noisy)
    monkeypatch.setattr(pruning, "PERTURBED_FRACTION", 0)
    assert divergence(prune(network, clean, 2), network, noisy) > 3 * perturbed


def block(hidden: Any, name: str) -> Any:
    """Conv, ReLU6, depthwise, ReLU6, conv: 16 hidden channels."""
    for kind, settings in (
        (keras.layers.Conv2D, {"filters": 16, "kernel_size": 1}),
        (keras.layers.DepthwiseConv2D, {"kernel_size": 3}),
    ):
        hidden = keras.layers.ReLU(6.0)(kind(**settings, padding="same", name=f"{name}_{kind.__name__}")(hidden))
    return keras.layers.Conv2D(8, 1, name=f"{name}_project")(hidden)


def test_channels_that_another_layer_reads_are_no_block() -> None:
    image = keras.Input((8, 8, 4), batch_size=1)

    def classify(*maps: Any) -> keras.Model:
        """A network that classifies the means of feature maps."""
        means = [keras.layers.GlobalAveragePooling2D()(each) for each in maps]
        features = keras.layers.Concatenate()(means) if len(means) > 1 else means[0]
        return keras.Model(image, keras.layers.Dense(2, activation="softmax")(features))

    one = block(image, "one")
    only = classify(one)
    assert [each.project.name for each in pruning._blocks(only)] == ["one_project"]
    hidden = only.get_layer("one_Conv2D").output
    both = pruning._blocks(classify(block(image, "two"), one))
    assert sorted(each.project.name for each in both) == ["one_project", "two_project"]
    assert pruning._blocks(classify(one, hidden)) == []


@pytest.mark.parametrize(("between", "is_merged"), [(16, True), (4, False)])
def test_two_pointwise_convolutions_become_one_where_that_is_less_work(between: int, is_merged: bool) -> None:
    image = keras.Input((6, 6, 16), batch_size=1)
    first = keras.layers.Conv2D(between, 1, name="first", bias_initializer="random_normal")(image)
    second = keras.layers.Conv2D(24, 1, name="second", bias_initializer="random_normal")(first)
    core = keras.Model(image, keras.layers.ReLU()(second))
    merged = pruning._without(core, [], {})
    left = ["second"] if is_merged else ["first", "second"]
    assert [layer.name for layer in merged.layers if layer.weights] == left
    values = np.random.default_rng(0).normal(size=(1, 6, 6, 16)).astype(np.float32)
    np.testing.assert_allclose(merged(values), core(values), atol=1e-5)


def test_a_pointwise_convolution_that_two_read_stays() -> None:
    image = keras.Input((6, 6, 16), batch_size=1)
    first = keras.layers.Conv2D(16, 1, name="first")(image)
    second = keras.layers.Conv2D(16, 1, name="second")(first)
    core = keras.Model(image, keras.layers.Add()([first, second]))
    assert [layer.name for layer in pruning._without(core, [], {}).layers if layer.weights] == ["first", "second"]
