"""The settings of a run that differ from the defaults, and the command that trains it again."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgecls.config import AugmentConfig, TrainConfig
from edgecls.config.choices import ALL_BLOCKS, name_settings
from edgecls.config.data import DataConfig
from edgecls.errors import ModelFileError
from edgecls.networks.presets import PRESETS, UNCHANGED


def read_config(saved: dict[str, Any]) -> TrainConfig:
    """Return the settings in run.json; a setting that an older run does not have gets its default.

    Raises:
        ModelFileError: they are damaged.
    """
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    settings = {name: value for name, value in name_settings(saved).items() if name in names}
    # JSON has no tuples and no dataclasses.
    settings |= {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}
    try:
        if settings.get("augment"):
            settings["augment"] = AugmentConfig(**settings["augment"])
        return TrainConfig(**settings)
    # A value of another type fails at its first comparison.
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"the settings in run.json are damaged ({error}); train again") from error


def find_changes(config: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """Return the settings that differ from `base`, as `presets.resolve` takes them; `augment` is False if it is off."""
    changes = {name: value for name, value in vars(config).items() if value != getattr(base, name)}
    if "augment" not in changes:
        return changes
    augment = changes.pop("augment")
    if augment is None:
        return changes | {"augment": False}
    defaults = base.augment or UNCHANGED
    return changes | {name: value for name, value in vars(augment).items() if value != getattr(defaults, name)}


def describe_changes(config: TrainConfig) -> list[tuple[str, str]]:
    """Return name and value of each setting that is not the product's default."""
    changes = find_changes(config, TrainConfig())
    _name_all_blocks(changes)
    return [(_option(name).replace("-", " "), _format(name, value)) for name, value in changes.items()]


def train_command(config: TrainConfig, folders: Sequence[str], out: Path) -> str:
    """Return the shell command that trains on these folders of images with these settings into `out`."""
    changes = find_changes(config, PRESETS.get(config.preset, TrainConfig()))
    changes.pop("more_data", None)
    _name_all_blocks(changes)
    words = ["edgecls", "train", *folders, "--out", str(out)]
    words += ["--preset", config.preset] if config.preset else []
    for name, value in changes.items():
        if isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{_option(name)}")
        # None is the default, which no option can set in place of a preset's value.
        elif value is not None:
            words += [f"--{_option(name)}", _format(name, value)]
    return shlex.join(words)


def data_arguments(config: TrainConfig) -> list[str]:
    """Return the options of `edgecls train` and `sweep` that read the images as these settings do."""
    names = {field.name for field in dataclasses.fields(DataConfig)} - {"val_fraction", "test_fraction", "more_data"}
    changes = find_changes(config, TrainConfig())
    pairs = ((f"--{_option(name)}", _format(name, value)) for name, value in changes.items() if name in names)
    return [word for pair in pairs for word in pair]


def _name_all_blocks(changes: dict[str, Any]) -> None:
    """Replace the setting that keeps all blocks by the value of `--blocks` that does."""
    if not changes.pop("choose_blocks", True):
        changes.setdefault("blocks", ALL_BLOCKS)


def _option(name: str) -> str:
    return name.removesuffix("_s").replace("_", "-")


def _format(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if name.endswith("_s") and isinstance(value, int | float):
        return f"{value:g}s"
    return (",".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)
