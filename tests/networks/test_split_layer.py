from __future__ import annotations

import keras
import numpy as np
import pytest

from edgecls.config import TrainConfig
from edgecls.config.choices import BLOCKS
from edgecls.networks.model import FEATURES_LAYER, build_mobilenet_v2
from edgecls.networks.split_layer import block_before, learn_above, learn_gray_and_head, split_at
from edgecls.networks.weights import Weights

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    config = TrainConfig(image_size=32, alpha=0.35, head="flatten", batch_norm=True)
    return build_mobilenet_v2(config, 3, Weights("none", None, None, "keras"))


def learning(model: keras.Model) -> set[str]:
    return {variable.path.split("/")[0] for variable in model.trainable_variables}


@pytest.mark.parametrize(
    ("unfreeze", "name"),
    [
        (1, "block_15_add"),
        (2, "block_14_add"),
        (3, "block_13_project_BN"),
        (BLOCKS - 1, "expanded_conv_project_BN"),
        (BLOCKS, "Conv1_relu"),
    ],
)
def test_the_cut_lies_before_the_last_blocks(model: keras.Model, unfreeze: int, name: str) -> None:
    assert block_before(model, unfreeze) == name


@pytest.mark.parametrize(
    ("blocks", "unfreeze", "name"), [(17, 1, "block_15_add"), (10, 2, "block_7_add"), (3, 3, "Conv1_relu")]
)
def test_the_last_blocks_are_those_of_a_shorter_network(blocks: int, unfreeze: int, name: str) -> None:
    config = TrainConfig(image_size=32, alpha=0.35, blocks=blocks)
    shorter = build_mobilenet_v2(config, 3, Weights("none", None, None, "keras"))
    assert block_before(shorter, unfreeze) == name
    learn_above(shorter, name)
    learns = {f"block_{number}" if number else "expanded" for number in range(blocks - unfreeze, blocks)}
    assert {"_".join(each.split("_")[:2]) if each[0] == "b" else each.split("_")[0] for each in learning(shorter)} == {
        *learns,
        "scores",
    }


def blocks(names: set[str]) -> set[str]:
    """Return the blocks that layers belong to: "block_7", "expanded"; others by their own name."""
    return {"_".join(name.split("_")[:2]) if name.startswith("block") else name.split("_")[0] for name in names}


@pytest.mark.parametrize("unfreeze", range(1, BLOCKS + 1))
def test_as_many_blocks_learn_as_are_asked_for_and_the_head(model: keras.Model, unfreeze: int) -> None:
    learn_above(model, block_before(model, unfreeze))
    last = [f"block_{number}" for number in range(16, 0, -1)] + ["expanded"]
    head = {"Conv", "hidden", "batch", "scores"}
    assert blocks(learning(model)) == set(last[:unfreeze]) | head


def test_normalization_of_the_backbone_stays_as_it_is_and_that_of_the_head_learns(model: keras.Model) -> None:
    learn_above(model, block_before(model, BLOCKS))
    assert not any("BN" in name or "_bn" in name for name in learning(model))
    assert "batch_norm" in learning(model)


def test_only_the_head_learns_above_the_features(model: keras.Model) -> None:
    learn_above(model, block_before(model, 3))
    learn_above(model, FEATURES_LAYER)
    assert learning(model) == {"hidden_1", "batch_norm", "scores"}


def test_gray_to_rgb_and_the_head_learn_together(model: keras.Model) -> None:
    learn_gray_and_head(model)
    assert learning(model) == {"gray_to_rgb", "hidden_1", "batch_norm", "scores"}


@pytest.mark.parametrize("name", [FEATURES_LAYER, "block_15_add", "block_13_project_BN", "Conv1_relu"])
def test_the_two_parts_make_the_whole_and_share_its_layers(model: keras.Model, name: str) -> None:
    extractor, learner = split_at(model, name)
    middle = extractor(IMAGES, training=False)
    np.testing.assert_allclose(learner(middle, training=False), model(IMAGES, training=False), atol=1e-6)
    assert learner.get_layer("scores") is model.get_layer("scores")
    assert extractor.get_layer("gray_to_rgb") is model.get_layer("gray_to_rgb")
    names = {layer.name for layer in extractor.layers} | {layer.name for layer in learner.layers}
    assert names >= {layer.name for layer in model.layers}


def test_what_the_learner_learns_is_in_the_model(model: keras.Model) -> None:
    _, learner = split_at(model, FEATURES_LAYER)
    before = model(IMAGES, training=False).numpy()
    kernel = learner.get_layer("scores").kernel
    kernel.assign(kernel * 2 + 0.1)
    assert (model(IMAGES, training=False).numpy() != before).any()
