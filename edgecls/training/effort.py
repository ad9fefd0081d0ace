"""Fine-tuning that nobody asked for by number: a short trial says of how many blocks.

The trial fine-tunes the last blocks for a few epochs on some of the training images. What has the lowest validation
loss is then trained in full. All numbers follow from the settings and the images, not from the time, so that a resumed
run ends with the same weights.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgecls.config import TrainConfig
from edgecls.config.choices import BLOCKS
from edgecls.images.dataset import Dataset, Split
from edgecls.messages.lists import counted
from edgecls.networks.split_layer import block_before, learn_above, split_at
from edgecls.training.context import Context
from edgecls.training.features.cache import CACHE_BYTES
from edgecls.training.features.frozen import FeatureExtractor, copy_count, frozen_examples
from edgecls.training.fit import fit
from edgecls.training.recipe import Recipe
from edgecls.training.run.checkpoint import Checkpoint

# How many of the last blocks are tried; more would take more than ten times the time of "quick".
TRIED_BLOCKS = (3, 6)
TRIAL_IMAGES, TRIAL_EPOCHS = 600, 3
# Of the whole backbone; the last blocks learn at the rate that --unfreeze has.
WHOLE_LEARNING_RATE = 3e-5
# Fewer epochs of many images: so many images in all, but never fewer epochs than the schedule needs.
FINE_IMAGES, LEAST_EPOCHS = 60_000, 3
# "best" trains the whole backbone after that.
WHOLE_IMAGES, WHOLE_EPOCHS = 120_000, 20
# Time of a step through the whole backbone, in those through its last 3 and 6 blocks (multiply-adds at 224 pixels).
WHOLE_FACTOR = {3: 4.1, 6: 2.2}
# Features of fine-tuning may take so much of the cache.
FEATURE_BYTES = CACHE_BYTES // 2


@dataclass(frozen=True)
class Trial:
    """The result of a short fine-tuning.

    Attributes:
        unfreeze: how many of the last blocks were fine-tuned.
        val_accuracy_before: of the softer classifier that it started from, 0..1.
        val_accuracy_after: of the weights with the lowest validation loss.
        val_loss: of the same weights.
        seconds: of its epochs.
    """

    unfreeze: int
    val_accuracy_before: float
    val_accuracy_after: float
    val_loss: float
    seconds: float


def try_blocks(context: Context, recipe: Recipe, extractors: dict[str, FeatureExtractor]) -> list[Trial]:
    """Return the trials that there was room and time for; the model is the same before and after.

    Args:
        context: of the run.
        recipe: of fine-tuning; the trial has fewer epochs.
        extractors: of each split layer; what is learned about them is kept.
    """
    part = dataclasses.replace(context, dataset=_first_images(context.dataset, context.config.seed))
    every = len(context.dataset.val.labels) + (1 + copy_count(context.config)) * len(context.dataset.train.labels)
    recipe = dataclasses.replace(recipe, phase="trial", epochs=TRIAL_EPOCHS, start_counts=False)
    # With the state of dropout's random numbers, so that the trial leaves no trace.
    variables = [variable for layer in context.model.layers for variable in layer.variables]
    before, trials = [variable.numpy() for variable in variables], []
    for blocks in TRIED_BLOCKS:
        if blocks > (context.config.blocks or BLOCKS):
            break
        split_layer = block_before(context.model, blocks)
        if not _copies_that_fit(context, split_layer) or context.workers.is_late(context.deadline):
            break
        known = extractors.setdefault(split_layer, FeatureExtractor())
        trials.append(_try(blocks, split_layer, part, recipe, known, every))
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
    return trials


def best_blocks(trials: list[Trial]) -> int:
    """Return how many blocks to fine-tune; 0 if there was no trial."""
    return min(trials, key=lambda trial: trial.val_loss).unfreeze if trials else 0


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
    config, trials, phases = record["config"], record.get("trials", []), record.get("phases", [])
    if config.get("effort") == "quick" and config.get("unfreeze") is None and not config["joint"]:
        return (
            f"--effort normal would take up to {_minutes(10 * record['seconds'])} and is mostly 1 to 3 points better."
        )
    if not trials or config.get("effort") == "best":
        return None
    images = sum(map(len, record["split"]["train"].values()))
    last = trials[-1]
    step_s = last["seconds"] / (TRIAL_EPOCHS * min(images, TRIAL_IMAGES)) * WHOLE_FACTOR[last["unfreeze"]]
    seconds = record["seconds"] + step_s * images * _epochs(images, WHOLE_EPOCHS, WHOLE_IMAGES)
    tuned = next((phase for phase in phases if phase["name"] == "fine-tuning" and phase["kept"]), None)
    gain = "did not help on the validation images"
    if tuned:
        rise = tuned["val_accuracy_after"] - tuned["val_accuracy_before"]
        gain = f"of {counted(tuned['unfreeze'], 'block')} gave {100 * rise:+.1f} points of validation accuracy"
    return f"Fine-tuning {gain}; --effort best, which trains all blocks, would take about {_minutes(seconds)}."


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


def _first_images(dataset: Dataset, seed: int) -> Dataset:
    """Return the data set with at most `TRIAL_IMAGES` training images, drawn at random."""
    train = dataset.train
    if len(train.labels) <= TRIAL_IMAGES:
        return dataset
    chosen = np.sort(np.random.default_rng([seed, 3]).permutation(len(train.labels))[:TRIAL_IMAGES])
    part = Split(tuple(train.paths[i] for i in chosen), np.asarray(train.images[chosen]), train.labels[chosen])
    return dataclasses.replace(dataset, train=part)


def _try(blocks: int, split_layer: str, context: Context, recipe: Recipe, known: FeatureExtractor, every: int) -> Trial:
    name, work = f"trial of {blocks} blocks", context.work
    learn_above(context.model, split_layer)
    extractor, learner = split_at(context.model, split_layer)
    train, val = frozen_examples(name, extractor, split_layer, context, known, copies=0, planned_images=every)
    fitted = fit(
        learner,
        train,
        val,
        recipe,
        checkpoint=Checkpoint(work / f"checkpoint-trial-{blocks}.npz", f"{context.owner} {name}") if work else None,
        deadline=context.deadline,
        on_epoch=lambda record, _: context.progress(
            name, record.epoch, recipe.epochs, f"val {record.val_accuracy:.4f}"
        ),
        workers=context.workers,
    )
    return Trial(
        blocks,
        fitted.start_accuracy,
        fitted.best_accuracy,
        fitted.best_loss,
        seconds=round(sum(record.seconds for record in fitted.history), 1),
    )
