"""The options of `edgecls train`: one for each setting, in the groups of its help."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeVar

import click

from edgecls.cli.data_options import DATA
from edgecls.cli.option_types import DURATION
from edgecls.cli.terminal import warn
from edgecls.config import AugmentConfig, TrainConfig
from edgecls.config.choices import ALL_BLOCKS, ARCHS, EFFORTS, FLIPS, HEADS, SCHEDULES, SOLVERS, WEIGHT_SOURCES

Command = TypeVar("Command", bound=Callable[..., Any])


class Sizes(click.ParamType):  # type: ignore[type-arg]  # generic since Click 8.4 only
    """A tuple of whole numbers, from text like 128,64 or none."""

    name = "n,n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        if not re.fullmatch(r"none|\d+(,\d+)*", value):
            self.fail(f"{value!r} is not a list of sizes; write 128,64", param, ctx)
        return () if value == "none" else tuple(int(size) for size in value.split(","))


class Blocks(click.ParamType):  # type: ignore[type-arg]
    """How many blocks to keep: a whole number, or `ALL_BLOCKS`."""

    name = "n|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number, or `ALL_BLOCKS`."""
        if str(value).lower() == ALL_BLOCKS:
            return ALL_BLOCKS
        if not re.fullmatch(r"\d+", str(value)):
            self.fail(f"{value!r} is neither a whole number nor {ALL_BLOCKS}", param, ctx)
        return int(value)


# Group of the help -> setting -> (type, help). Defaults are in config/training.py.
GROUPS: dict[str, dict[str, tuple[Any, str]]] = {
    "Data": DATA,
    "Network": {
        "arch": (click.Choice(ARCHS), "Network architecture."),
        "alpha": (float, "Width multiplier of MobileNetV2."),
        "blocks": (
            Blocks(),
            "Blocks of MobileNetV2 to keep, 1 to 17, or all, with the last 1x1 convolution.  [default: 12, 15 or all, "
            "by the features of the training images]",
        ),
        "head": (click.Choice(HEADS), "Layers that follow MobileNetV2."),
        "weights": (str, f"Pretrained weights: {', '.join(WEIGHT_SOURCES)} or a file."),
    },
    "Learning": {
        "solver": (
            click.Choice(SOLVERS),
            "How a linear classifier learns: its optimum, or in steps.  [default: lbfgs]",
        ),
        "refit": (bool, "At the end, solve the classifier again with the validation images too.  [default: refit]"),
        "epochs": (int, "Maximum epochs."),
        "batch_size": (int, "Images in each step."),
        "learning_rate": (float, "Initial learning rate.  [default: depends on the network]"),
        "patience": (int, "Stop a phase after this many epochs without a better validation loss."),
        "effort": (click.Choice(EFFORTS), "How long to fine-tune; best takes an hour or more.  [default: normal]"),
        "unfreeze": (int, "Fine-tune this many of MobileNetV2's last blocks, in place of --effort."),
        "joint": (bool, "After the classifier, train it together with the 1-to-3 convolution."),
        "fine_epochs": (int, "Maximum epochs of fine-tuning and --joint."),
        "fine_learning_rate": (float, "Learning rate of both.  [default: 1e-4, 3e-5 for the whole backbone]"),
        "time_budget_s": (DURATION, "Stop after this time with the best weights so far: 90s, 5m, 1h."),
    },
    "Regularization": {
        "dropout": (float, "Fraction of features dropped before the classifier."),
        "weight_decay": (float, "Weight decay of AdamW; 0 is off."),
        "l2": (float, "Factor of the squared weights in the loss; 0 is off."),
        "label_smoothing": (float, "Label smoothing; 0 is off."),
        "balance": (bool, "Weight each class by the inverse of its number of images."),
    },
    "Augmentation": {
        "augment": (bool, "Also train on randomly changed copies of the images."),
        "augmented_copies": (int, "Changed copies of each image."),
        "flip": (click.Choice(FLIPS), "Random mirroring; auto finds out whether it helps."),
        "rotation": (float, "Largest rotation, as a fraction of a full turn; 0 is off."),
        "translation": (float, "Largest shift, as a fraction of the side; 0 is off."),
        "zoom": (float, "Largest zoom in or out, as a fraction; 0 is off."),
        "brightness": (float, "Largest change of brightness, as a fraction of white; 0 is off."),
        "contrast": (float, "Largest change of contrast, as a fraction; 0 is off."),
    },
    "Advanced": {
        "hidden": (Sizes(), "Units of dense layers before the classifier: 512, or 128,64."),
        "filters": (Sizes(), "cnn: filters of each convolution."),
        "batch_norm": (bool, "Batch normalization before the classifier."),
        "schedule": (click.Choice(SCHEDULES), "Learning rate schedule.  [default: depends on the network]"),
        "warmup_epochs": (int, "Epochs in which the learning rate rises."),
        "clip_norm": (float, "Largest norm of the gradients; 0 is off."),
        "seed": (int, "Random seed."),
    },
}
SETTINGS = {name: setting for group in GROUPS.values() for name, setting in group.items()}
# The other options of each group, before and after its settings.
FIRST = {"Data": ("out", "overwrite", "resume", "skip_bad"), "Network": ("preset",), "Augmentation": ("preview",)}
LAST = {"Advanced": ("tensorboard", "ray")}
# Settings that only one architecture has; others are refused by `TrainConfig` where they contradict each other.
SETTINGS_OF_ARCH = {
    "filters": "cnn",
    **dict.fromkeys(("alpha", "head", "weights", "blocks", "unfreeze"), "mobilenet_v2"),
}


def warn_of_other_archs(given: Container[str], archs: Sequence[str]) -> None:
    """Warn of each given setting that none of the architectures has."""
    for name, arch in SETTINGS_OF_ARCH.items():
        if name in given and arch not in archs:
            warn(f"--{name} has no effect: it is a setting of {arch}, and the network is {' or '.join(archs)} (--arch)")


def setting_options(command: Command) -> Command:
    """Add one option for each setting; an option that is not given stays None and leaves the preset's value."""
    defaults = {**dataclasses.asdict(TrainConfig()), **dataclasses.asdict(AugmentConfig()), "augment": True}
    for name, (kind, text) in SETTINGS.items():
        flag = "--" + name.removesuffix("_s").replace("_", "-")
        default = defaults[name]
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        shown = "" if default in (None, "") or isinstance(default, bool) else f"  [default: {default}]"
        declared = f"{flag}/--no-{flag[2:]}" if kind is bool else flag
        option = click.option(declared, name, type=None if kind is bool else kind, default=None, help=text + shown)
        command = option(command)
    # The former name of --augmented-copies.
    return click.option("--views", type=int, hidden=True)(command)
