"""Each preset layer by layer against the words that describe the network of the lecture."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecls.config import AugmentConfig, TrainConfig
from edgecls.errors import ConfigError
from edgecls.networks.model import FEATURES_LAYER, build_model
from edgecls.networks.presets import PRESETS, UNCHANGED, resolve
from edgecls.networks.weights import Weights

CLASSES = 6
# What stands between the image and the scores: (layer, what is set on it).
LAYERS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    # Dense 128-64-32 with Dropout 0.2
    "lecture-dense": [
        ("Rescaling", {}),
        ("Flatten", {}),
        ("Dense", {"units": 128, "activation": "relu"}),
        ("Dropout", {"rate": 0.2}),
        ("Dense", {"units": 64, "activation": "relu"}),
        ("Dropout", {"rate": 0.2}),
        ("Dense", {"units": 32, "activation": "relu"}),
        ("Dropout", {"rate": 0.2}),
    ],
    # 256x256, Conv 16 k2, Dropout 0.1, MaxPool, Conv 32 k2, Dropout 0.1, MaxPool, Flatten, Dense 32, Dense 16
    "lecture-cnn-dropout": [
        ("Rescaling", {}),
        ("Conv2D", {"filters": 16, "kernel_size": (2, 2), "padding": "valid", "activation": "relu"}),
        ("Dropout", {"rate": 0.1}),
        ("MaxPooling2D", {"pool_size": (2, 2)}),
        ("Conv2D", {"filters": 32, "kernel_size": (2, 2), "padding": "valid", "activation": "relu"}),
        ("Dropout", {"rate": 0.1}),
        ("MaxPooling2D", {"pool_size": (2, 2)}),
        ("Flatten", {}),
        ("Dense", {"units": 32, "activation": "relu"}),
        ("Dense", {"units": 16, "activation": "relu"}),
    ],
    # RandomFlip horizontal_and_vertical, RandomRotation 0.2, Conv 16, MaxPool, Flatten, Dense 32
    "lecture-cnn-augment": [
        ("Rescaling", {}),
        ("Conv2D", {"filters": 16, "kernel_size": (3, 3), "padding": "valid", "activation": "relu"}),
        ("MaxPooling2D", {"pool_size": (2, 2)}),
        ("Flatten", {}),
        ("Dense", {"units": 32, "activation": "relu"}),
    ],
    # 256x256, Rescaling 1/255, Conv2D(3, 3x3) with padding fixed, frozen MobileNetV2, Flatten, Dense 32, Adam 1e-3
    "lecture-transfer": [
        ("Rescaling", {"scale": 1 / 255, "offset": 0}),
        ("Conv2D", {"filters": 3, "kernel_size": (3, 3), "padding": "same", "activation": "linear"}),
        ("MobileNetV2", {}),
        ("Flatten", {}),
        ("Dense", {"units": 32, "activation": "relu"}),
    ],
}


def layers_of(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers between the image and the scores; those of the backbone are None, once."""
    layers, names = model.layers[1:-1], [layer.name for layer in model.layers[1:-1]]
    if "Conv1" not in names:
        return list(layers)
    begin, end = names.index("gray_to_rgb") + 1, names.index(FEATURES_LAYER)
    assert names[begin:end][:2] == ["pad_stem", "Conv1"] and names[end - 1] == "out_relu"
    assert not any(layer.trainable for layer in layers[begin:end])
    return [*layers[:begin], None, *layers[end:]]


@pytest.mark.parametrize("name", LAYERS)
def test_the_network_is_the_lectures_layer_by_layer(name: str) -> None:
    config = PRESETS[name]
    assert config.image_size == 256 and config.preset == name
    model = build_model(config, CLASSES, Weights("none", None, None, "keras"))
    found = layers_of(model)
    assert [type(layer).__name__ if layer else "MobileNetV2" for layer in found] == [kind for kind, _ in LAYERS[name]]
    for layer, (_, wanted) in zip(found, LAYERS[name], strict=True):
        settings = layer.get_config() if layer else {}
        assert {key: settings[key] for key in wanted} == wanted
    assert model.layers[-1].units == CLASSES and model.layers[-1].activation is keras.activations.softmax


def test_there_are_no_others() -> None:
    assert set(PRESETS) == set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_the_recipe_is_plain_adam_and_images_change_in_one_preset_only(name: str) -> None:
    config = PRESETS[name]
    assert (config.main_learning_rate, config.schedule, config.batch_size) == (1e-3, "constant", 32)
    assert (config.weight_decay, config.l2, config.label_smoothing, config.clip_norm) == (0, 0, 0, 0)
    assert not (config.balance or config.joint or config.unfreeze or config.batch_norm)
    flips_and_turns = dataclasses.replace(UNCHANGED, flip="horizontal_and_vertical", rotation=0.2)
    assert config.augment == (flips_and_turns if name == "lecture-cnn-augment" else None)


def test_nothing_is_changed_by_unchanged() -> None:
    assert {value for value in dataclasses.asdict(UNCHANGED).values() if value != "none"} == {0}
    assert UNCHANGED.flip == "none"


# What the user gives


def test_without_a_preset_the_products_own_recipe_holds() -> None:
    assert resolve("", {}) == TrainConfig()
    assert resolve("", {"image_size": 96}) == TrainConfig(image_size=96)


GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "image_size": st.integers(32, 512),
        "dropout": st.floats(0, 0.9),
        "epochs": st.integers(1, 100),
        "learning_rate": st.floats(1e-5, 0.1),
        "seed": st.integers(0, 1000),
        "hidden": st.lists(st.integers(1, 64), max_size=3).map(tuple),
    },
)


@given(st.sampled_from(sorted(PRESETS)), GIVEN)
def test_what_is_given_holds_and_the_rest_is_the_presets(name: str, given: dict[str, Any]) -> None:
    config, preset = dataclasses.asdict(resolve(name, given)), dataclasses.asdict(PRESETS[name])
    assert {key: config[key] for key in given} == given
    assert {key: config[key] for key in config if key not in given} == {
        key: preset[key] for key in preset if key not in given
    }


def test_one_change_of_augmentation_leaves_the_others() -> None:
    turned = resolve("lecture-cnn-augment", {"rotation": 0.1}).augment
    assert turned == AugmentConfig("horizontal_and_vertical", 0.1, 0, 0, 0, 0)
    assert resolve("", {"rotation": 0.1}).augment == AugmentConfig(rotation=0.1)
    # A preset without augmentation gets what was asked for and no more.
    assert resolve("lecture-dense", {"zoom": 0.1}).augment == dataclasses.replace(UNCHANGED, zoom=0.1)


def test_augmentation_is_switched_as_a_whole() -> None:
    for name in ("", "lecture-cnn-augment"):
        assert resolve(name, {"augment": False}).augment is None
        assert resolve(name, {"augment": None}).augment is None
        assert resolve(name, {"augment": True}) == resolve(name, {})
    assert resolve("lecture-dense", {"augment": True}).augment == AugmentConfig()
    own = AugmentConfig(zoom=0.3)
    assert resolve("lecture-dense", {"augment": own}).augment == own
    assert resolve("lecture-dense", {"augment": True, "zoom": 0.3}).augment == own


def test_changes_without_augmentation_are_refused() -> None:
    with pytest.raises(ConfigError, match="rotation, zoom set with --no-augment"):
        resolve("", {"augment": False, "rotation": 0.1, "zoom": 0.1})


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"one of lecture-dense, .*lecture-transfer; received 'lecture'"):
        resolve("lecture", {})


def test_what_is_given_is_checked() -> None:
    with pytest.raises(ConfigError, match="dropout"):
        resolve("lecture-dense", {"dropout": 1})
    with pytest.raises(ConfigError, match="joint must be left out: mlp has no backbone"):
        resolve("lecture-dense", {"joint": True})


def test_presets_are_read_without_tensorflow() -> None:
    code = "import sys, edgecls.networks.presets; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert not {"tensorflow", "keras", "click"} & set(done.stdout.split())


def test_a_setting_of_steps_asks_for_steps_even_with_its_default_value() -> None:
    assert resolve("", {"dropout": TrainConfig.dropout}).classifier_solver == "sgd"
    assert resolve("", {"image_size": 96, "balance": True}).classifier_solver == "lbfgs"
    assert resolve("", {"solver": "lbfgs", "unfreeze": 3, "patience": TrainConfig.patience}).solver == "lbfgs"
