"""The networks of a university lecture, layer by layer, for comparison: `edgecls train --preset`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgecls.config import AugmentConfig, TrainConfig
from edgecls.config.choices import ALL_BLOCKS, ALL_STEPS, CLASSIFIER_STEPS
from edgecls.errors import ConfigError

UNCHANGED = AugmentConfig(flip="none", rotation=0, translation=0, zoom=0, brightness=0, contrast=0)
"""Augmentation that changes nothing, as a base for single changes."""

_LECTURE = TrainConfig(
    image_size=256, learning_rate=1e-3, schedule="constant", dropout=0, conv_dropout=0, hidden_dropout=0, augment=None
)
_RECIPES = (
    # Dense 128, 64, 32 with Dropout 0.2 after each.
    dataclasses.replace(_LECTURE, preset="lecture-dense", arch="mlp", hidden=(128, 64, 32), hidden_dropout=0.2),
    # Conv 16 (2x2), Dropout 0.1, MaxPool, Conv 32 (2x2), Dropout 0.1, MaxPool, Flatten, Dense 32, Dense 16.
    dataclasses.replace(
        _LECTURE,
        preset="lecture-cnn-dropout",
        arch="cnn",
        filters=(16, 32),
        kernel=2,
        conv_dropout=0.1,
        hidden=(32, 16),
    ),
    # Random flips both ways and turns of 0.2, then Conv 16, MaxPool, Flatten, Dense 32.
    dataclasses.replace(
        _LECTURE,
        preset="lecture-cnn-augment",
        arch="cnn",
        filters=(16,),
        hidden=(32,),
        augment=dataclasses.replace(UNCHANGED, flip="horizontal_and_vertical", rotation=0.2),
    ),
    # Rescaling to 0..1, Conv 3 (3x3), frozen MobileNetV2, Flatten, Dense 32.
    dataclasses.replace(
        _LECTURE, preset="lecture-transfer", gray_to_rgb="random", head="flatten", hidden=(32,), epochs=10
    ),
)
PRESETS = {config.preset: config for config in _RECIPES}


def resolve(preset: str, explicit: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of `preset`, changed by those that the user gave.

    Args:
        preset: name in `PRESETS`, or "" for the product's own recipe.
        explicit: what the user gave: fields of TrainConfig, where `blocks` may also be `ALL_BLOCKS`; fields of
            AugmentConfig, which change one thing about the preset's augmentation; and `augment`, an AugmentConfig or a
            switch: False or None is off, True is on.

    Raises:
        ConfigError: there is no such preset, a value is out of range, or augmentation is off and yet changed.
    """
    if preset and preset not in PRESETS:
        raise ConfigError(f"--preset must be one of {', '.join(PRESETS)}; received {preset!r}")
    base = PRESETS[preset] if preset else TrainConfig()
    names = {field.name for field in dataclasses.fields(AugmentConfig)}
    changes = {name: value for name, value in explicit.items() if name in names}
    settings = {name: value for name, value in explicit.items() if name not in names}
    if settings.get("blocks") == ALL_BLOCKS:
        settings |= {"blocks": None, "choose_blocks": False}
    augment = settings.get("augment", base.augment)
    if augment is True:
        augment = base.augment or AugmentConfig()
    if changes:
        if "augment" in settings and not augment:
            raise ConfigError(
                f"{', '.join(changes)} set with --no-augment: nothing is changed then; leave out one of them"
            )
        augment = dataclasses.replace(augment or UNCHANGED, **changes)
    config = dataclasses.replace(base, **{**settings, "augment": augment or None})
    # A setting of steps may be given with its default value.
    if config.solver is None and config.classifier_solver == "lbfgs" and {*CLASSIFIER_STEPS, *ALL_STEPS} & {*settings}:
        config = dataclasses.replace(config, solver="sgd")
    return config
