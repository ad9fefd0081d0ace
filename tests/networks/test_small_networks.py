"""Tests of edgecls.networks.small_networks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecls.config import TrainConfig
from edgecls.errors import ConfigError
from edgecls.networks.small_networks import MID_GRAY, build_cnn, build_mlp

CLASSES = 3
CNN = TrainConfig(arch="cnn", image_size=24, filters=(8, 16), hidden=(32, 16))
MLP = TrainConfig(arch="mlp", image_size=12, hidden=(64, 32))
BUILDERS = {"cnn": build_cnn, "mlp": build_mlp}


def build(config: TrainConfig) -> keras.Model:
    return BUILDERS[config.arch](config, CLASSES)


def random_images(size: int, count: int = 4) -> NDArray[np.uint8]:
    return np.random.default_rng(size).integers(0, 256, (count, size, size, 1), dtype=np.uint8)


@pytest.mark.parametrize("config", [CNN, MLP], ids=lambda config: config.arch)
def test_raw_images_go_in_and_scores_come_out(config: TrainConfig) -> None:
    model = build(config)
    assert (model.name, model.input.dtype) == (config.arch, "uint8")
    assert model.input.shape == (None, config.image_size, config.image_size, 1)
    scores = np.asarray(model(random_images(config.image_size), training=False))
    assert scores.shape == (4, CLASSES) and scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    assert (scores[0] != scores[1]).any()


@pytest.mark.parametrize("config", [CNN, MLP], ids=lambda config: config.arch)
def test_the_image_is_centered(config: TrainConfig) -> None:
    model = build(config)
    center = keras.Model(model.input, model.get_layer("center").output)
    levels = np.stack([np.full((config.image_size, config.image_size, 1), gray, np.uint8) for gray in (0, 128, 255)])
    black, middle, white = (np.asarray(center(levels))[i].mean() for i in range(3))
    assert MID_GRAY == 128 and middle == 0
    assert black == pytest.approx(-1, abs=0.01) and white == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (
            CNN,
            "image center conv_1 conv_1_dropout pool_1 conv_2 conv_2_dropout pool_2 flatten hidden_1 hidden_2 dropout "
            "scores",
        ),
        (MLP, "image center flatten hidden_1 hidden_1_dropout hidden_2 hidden_2_dropout dropout scores"),
    ],
    ids=lambda value: getattr(value, "arch", ""),
)
def test_layers_stand_in_this_order_and_can_be_left_out(config: TrainConfig, names: str) -> None:
    assert [layer.name for layer in build(config).layers] == names.split()
    bare = dataclasses.replace(config, dropout=0, conv_dropout=0, hidden_dropout=0, hidden=())
    kept = [name for name in names.split() if "dropout" not in name and "hidden" not in name]
    assert [layer.name for layer in build(bare).layers] == kept
    normalized = dataclasses.replace(config, batch_norm=True)
    assert [layer.name for layer in build(normalized).layers][-3:] == ["batch_norm", "dropout", "scores"]


def test_settings_reach_their_layers() -> None:
    cnn = build(dataclasses.replace(CNN, kernel=2, conv_dropout=0.15, dropout=0.3))
    assert [cnn.get_layer(f"conv_{i}").filters for i in (1, 2)] == [8, 16]
    assert cnn.get_layer("conv_1").kernel_size == (2, 2) and cnn.get_layer("conv_1").padding == "valid"
    assert cnn.get_layer("conv_2_dropout").rate == 0.15 and cnn.get_layer("dropout").rate == 0.3
    # 24 -> 23 -> 11 -> 10 -> 5.
    assert cnn.get_layer("pool_2").output.shape == (None, 5, 5, 16)
    mlp = build(dataclasses.replace(MLP, hidden_dropout=0.45))
    assert [mlp.get_layer(f"hidden_{i}").units for i in (1, 2)] == [64, 32]
    assert mlp.get_layer("hidden_2_dropout").rate == 0.45
    for model in (cnn, mlp):
        with_weights = [layer for layer in model.layers if layer.weights]
        assert [layer.activation.__name__ for layer in with_weights] == [
            *["relu"] * (len(with_weights) - 1),
            "softmax",
        ]


def test_weights_begin_by_he_before_a_relu_and_by_glorot_before_the_softmax() -> None:
    wide = TrainConfig(arch="cnn", image_size=16, filters=(64, 128), hidden=(256,))
    model = BUILDERS["cnn"](wide, 100)
    for name in ("conv_1", "conv_2", "hidden_1"):
        kernel = model.get_layer(name).get_weights()[0]
        assert kernel.var() == pytest.approx(2 / np.prod(kernel.shape[:-1]), rel=0.15), name
    kernel = model.get_layer("scores").get_weights()[0]
    assert kernel.var() == pytest.approx(2 / (256 + 100), rel=0.05)
    assert np.abs(kernel).max() <= np.sqrt(6 / (256 + 100)) + 1e-6


@pytest.mark.parametrize("config", [CNN, MLP], ids=lambda config: config.arch)
def test_the_seed_alone_decides_the_first_weights_and_what_is_dropped(config: TrainConfig) -> None:
    found = []
    for seed, session in ((0, 1), (0, 2), (1, 1)):
        keras.utils.set_random_seed(session)
        model = build(dataclasses.replace(config, seed=seed))
        dropped = np.asarray(model(random_images(config.image_size), training=True))
        found.append([*model.get_weights(), dropped])
    for first, same, other in zip(*found, strict=True):
        assert (first == same).all()
        # Biases begin at zero with any seed.
        assert (first != other).any() or not first.any()


def test_layers_of_the_same_shape_begin_differently() -> None:
    model = build(dataclasses.replace(MLP, hidden=(32, 32, 32)))
    second, third = (model.get_layer(f"hidden_{i}").get_weights()[0] for i in (2, 3))
    assert (second != third).all()


def test_dropout_is_for_training_only() -> None:
    model, images = build(CNN), random_images(CNN.image_size)
    still, again = (np.asarray(model(images, training=False)) for _ in range(2))
    np.testing.assert_array_equal(still, again)
    assert (np.asarray(model(images, training=True)) != still).any()


@pytest.mark.parametrize("config", [CNN, MLP], ids=lambda config: config.arch)
def test_a_saved_network_is_the_same_network(config: TrainConfig, tmp_path: Path) -> None:
    model, images = build(dataclasses.replace(config, batch_norm=True)), random_images(config.image_size)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert not [layer for layer in again.layers if isinstance(layer, keras.Model)]
    np.testing.assert_array_equal(again(images, training=False), model(images, training=False))


@settings(max_examples=12)
@given(st.integers(8, 80), st.integers(1, 7))
def test_as_many_convolutions_as_the_picture_has_room_for(size: int, kernel: int) -> None:
    deepest = 0
    for count in range(1, 8):
        config = {"arch": "cnn", "image_size": size, "kernel": kernel, "filters": (2,) * count, "hidden": ()}
        try:
            last = build(TrainConfig(**config)).get_layer(f"pool_{count}").output.shape  # type: ignore[arg-type]
        except ConfigError as error:
            assert f"filters must be 1 to {deepest} numbers for {size} pixels and kernel {kernel}" in str(error)
            break
        assert min(last[1:3]) >= 1
        deepest = count
    # One more would have had nothing left to read or to pool.
    side = size
    for _ in range(deepest + 1):
        side = (side - kernel + 1) // 2
    assert side < 1
