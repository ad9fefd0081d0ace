"""Fine-tuning that nobody asked for by number: of how many blocks, and how long.

All numbers follow from the settings and the images, not from the time, so that a resumed run ends with the same
weights. What does not help on the validation images is discarded at the end. A short trial cannot tell: one of 3 epochs
preferred 3 blocks on magnetic tiles, where 6 were better in the end in three of three splits (98.2 against 97.0 % of
the validation images).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.config.choices import BLOCKS
from edgecls.messages.lists import counted
from edgecls.networks.split_layer import block_before
from edgecls.training.context import Context
from edgecls.training.features.cache import CACHE_BYTES

# How many of the last blocks learn, or the next number if their features take too much room. More than 6 would take
# more than ten times the time of "quick".
FINE_BLOCKS = (6, 3)
# Of the whole backbone; the last blocks learn at the rate that --unfreeze has.
WHOLE_LEARNING_RATE = 3e-5
# Fewer epochs of many images: so many images in all, but never fewer epochs than the schedule needs.
FINE_IMAGES, LEAST_EPOCHS = 60_000, 3
# "best" trains the whole backbone after that.
WHOLE_IMAGES, WHOLE_EPOCHS = 120_000, 20
# Time of a step through the whole backbone, in those through its last 3 and 6 blocks (multiply-adds at 224 pixels).
WHOLE_FACTOR = {3: 4.1, 6: 2.2}
# Time of an epoch of fine-tuning, in those of the features of "quick": with 10 epochs, fine-tuning took 4 to 7 times as
# long as these for 300 images of 96 and of 160 pixels and 992 of 224.
EPOCH_FACTOR = 0.6
# Features of fine-tuning may take so much of the cache.
FEATURE_BYTES = CACHE_BYTES // 2


def fine_blocks(context: Context) -> int:
    """Return how many of the last blocks to fine-tune; 0 if there is no room for their features."""
    most = context.config.blocks or BLOCKS
    fitting = (blocks for blocks in FINE_BLOCKS if blocks <= most)
    return next((n for n in fitting if _copies_that_fit(context, block_before(context.model, n))), 0)


def fine_settings(context: Context, blocks: int) -> TrainConfig:
    """Return the settings for fine-tuning `blocks` blocks of this many images."""
    config, images = context.config, len(context.dataset.train.labels)
    # The first is of the images themselves.
    copies = _copies_that_fit(context, block_before(context.model, blocks)) - 1
    return dataclasses.replace(
        config,
        effort=None,
        unfreeze=blocks,
        fine_epochs=_epochs(images, config.fine_epochs, FINE_IMAGES),
        augmented_copies=min(config.augmented_copies, copies),
    )


def whole_settings(context: Context) -> TrainConfig:
    """Return the settings for training the whole backbone with this many images."""
    config, images = context.config, len(context.dataset.train.labels)
    epochs = _epochs(images, WHOLE_EPOCHS, WHOLE_IMAGES)
    rate = WHOLE_LEARNING_RATE if config.fine_learning_rate is None else config.fine_learning_rate
    blocks = config.blocks or BLOCKS
    return dataclasses.replace(config, effort=None, unfreeze=blocks, fine_epochs=epochs, fine_learning_rate=rate)


def describe_next(record: dict[str, Any]) -> str | None:
    """Return what the next effort would cost and may give, in one sentence; None if the run chose its own fine-tuning.

    Args:
        record: the content of run.json.
    """
    config, phases = record["config"], record.get("phases", [])
    if config.get("effort") == "quick" and config.get("unfreeze") is None and not config["joint"]:
        return f"--effort normal would take {_describe_normal(record)} and may be 1 or 2 points better."
    tuned = next((phase for phase in phases if phase["name"] == "fine-tuning" and phase.get("epoch_seconds")), None)
    if tuned is None or tuned["unfreeze"] not in WHOLE_FACTOR or config.get("effort") == "best":
        return None
    images = sum(map(len, record["split"]["train"].values()))
    epochs = _epochs(images, WHOLE_EPOCHS, WHOLE_IMAGES)
    seconds = record["seconds"] + tuned["epoch_seconds"] * WHOLE_FACTOR[tuned["unfreeze"]] * epochs
    gain = "did not help on the validation images"
    if tuned["kept"]:
        rise = tuned["val_accuracy_after"] - tuned["val_accuracy_before"]
        gain = f"of {counted(tuned['unfreeze'], 'block')} gave {100 * rise:+.1f} points of validation accuracy"
    return f"Fine-tuning {gain}; --effort best, which trains all blocks, would take about {_minutes(seconds)}."


def _describe_normal(record: dict[str, Any]) -> str:
    """Return how long effort "normal" takes, from what "quick" took for its features."""
    features = [phase["seconds"] for phase in record.get("phases", []) if phase.get("forward")]
    if not features:
        # They were cached, or an older version did not write it.
        return f"up to {_minutes(10 * record['seconds'])}"
    images = sum(map(len, record["split"]["train"].values()))
    epochs = _epochs(images, record["config"]["fine_epochs"], FINE_IMAGES)
    return f"about {_minutes(record['seconds'] + sum(features) * (1 + EPOCH_FACTOR * epochs))}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _epochs(images: int, most: int, seen: int) -> int:
    return min(most, max(LEAST_EPOCHS, seen // images))


def _copies_that_fit(context: Context, split_layer: str) -> int:
    """Return how many copies of the training images' features there is room for beside those of validation images."""
    shape = context.model.get_layer(split_layer).output.shape[1:]
    row = int(math.prod(shape)) * np.dtype(np.float16).itemsize
    images, others = len(context.dataset.train.labels), len(context.dataset.val.labels)
    return max(0, FEATURE_BYTES - others * row) // (images * row)
