"""What is watched while a network learns: numbers that are not finite, dead ReLUs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from one_step import POINTS, make, step
from points import CLASSES, network

from edgecls.config import TrainConfig
from edgecls.networks.model import build_mobilenet_v2
from edgecls.networks.split_layer import block_before, learn_above, learn_gray_and_head, split_at
from edgecls.networks.weights import Weights
from edgecls.training.step import StepOutput

# What is not finite


@pytest.mark.parametrize(
    ("loss", "gradients", "what", "layer"),
    [
        (np.nan, [1, 1, 1], "loss", None),
        (np.inf, [1, np.nan, np.nan], "loss", "hidden_2"),
        (1.0, [np.inf, 1, 1], "gradient", "hidden_1"),
        (1.0, [1, 1, np.nan], "gradient", "scores"),
    ],
)
def test_the_first_layer_that_is_not_finite_is_named(
    loss: float, gradients: list[float], what: str, layer: str | None
) -> None:
    net = make(network(8, 5))
    found = net.find_divergence(StepOutput(loss, 0, np.array(gradients, np.float32), None), "classifier", 4, 7)
    assert found is not None
    assert (found.phase, found.epoch, found.step, found.what, found.layer) == ("classifier", 4, 7, what, layer)


def test_what_is_finite_is_no_divergence() -> None:
    net = make(network(8, 5))
    assert net.find_divergence(step(net), "classifier", 1, 0) is None
    assert net.find_bad_layer() is None


def test_the_first_layer_with_bad_weights_is_found() -> None:
    model = network(8, 5)
    net = make(model)
    for name in ("scores", "hidden_2"):
        model.get_layer(name).bias.assign(np.full(model.get_layer(name).bias.shape, np.inf))
    assert net.find_bad_layer() == "hidden_2"


# Dead ReLUs


def test_a_channel_is_dead_if_no_input_of_any_batch_wakes_it() -> None:
    model = network(4)
    # Units 0 and 1 look at the sign of the first column, unit 2 is always off, unit 3 always on.
    kernel = np.zeros((4, 4), np.float32)
    kernel[0] = (1, -1, 0, 0)
    model.get_layer("hidden_1").set_weights([kernel, np.array([0, 0, -1, 1], np.float32)])
    net = make(model)
    plus = np.array([[1, 0, 0, 0]], np.float32)
    assert net.dead_fractions([plus]) == {"hidden_1": 0.5}
    assert net.dead_fractions([plus, -plus]) == {"hidden_1": 0.25}


def test_a_network_without_relus_has_no_dead_ones() -> None:
    assert make(network()).dead_fractions([POINTS.x]) == {}


@pytest.fixture(scope="module")
def mobilenet() -> keras.Model:
    return build_mobilenet_v2(TrainConfig(image_size=32, alpha=0.35), CLASSES, Weights("none", None, None, "keras"))


def test_relus_of_frozen_layers_are_not_laid_at_another_layers_door(mobilenet: keras.Model) -> None:
    learn_gray_and_head(mobilenet)
    net = make(mobilenet)
    assert net.layer_names == ["gray_to_rgb", "scores"]
    # gray_to_rgb has no ReLU; the backbone's belong to layers that do not learn.
    assert net.dead_fractions([np.zeros((2, 32, 32, 1), np.uint8)]) == {}


def test_a_frozen_normalization_may_stand_before_the_relu(mobilenet: keras.Model) -> None:
    cut = block_before(mobilenet, 1)
    learn_above(mobilenet, cut)
    learner = split_at(mobilenet, cut)[1]
    net = make(learner)
    random = np.random.default_rng(0).normal(size=(4, *learner.input.shape[1:]))
    shares = net.dead_fractions([random.astype(np.float32)])
    # The projection ends without one.
    assert set(shares) == {"block_16_expand", "block_16_depthwise", "Conv_1"}
    assert all(0 <= share < 1 for share in shares.values())
