"""How many blocks of the backbone a run keeps, where nobody says it: the fewest whose features are as good as any.

The last layers were trained to tell photographs of animals and things apart. For gray images of other kinds, features
of an earlier block are often better: of 992 magnetic tiles, a linear classifier on frozen features of 224 pixels labels
96.8 % correctly with all blocks and 98.3 % with 14, and of 6,000 clothes 88.3 % and, with 16, 90.2 %.

Depths whose accuracies differ by less than a standard error cannot be told apart, and 12 blocks were mostly better
after training than a larger number that was ahead by less: in five folds of tiles and clothes, 0.2 to 1.1 points of the
test images with a frozen backbone, and in six with fine-tuning -0.7 to 1.3 points, 0.3 on average.

`benchmarks/depth.py` measures this.

The features of all depths come from one pass over training images. Each image is labeled by a classifier that learned
from the others.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

from edgecls.config import TrainConfig
from edgecls.config.choices import ALL_BLOCKS
from edgecls.images.dataset import Dataset
from edgecls.networks.weights import Weights
from edgecls.progress import Progress
from edgecls.training.distributed.workers import Workers
from edgecls.training.features.depths import features_of_depths
from edgecls.training.leave_one_out import label_each_from_the_others
from edgecls.training.run.checkpoint import checkpoint_in, measure_once

# Depths that are compared: the second block of 96 and of 160 channels, and all. For three sets of images of 96 and of
# 224 pixels, any other was at most 0.2 points better, and each one more makes it likelier that chance decides: 13
# blocks, chosen so, labeled 12 of 352 photographs of tiles incorrectly, where 12 and 15 blocks did 5 and 6.
TRIED = (12, 15, None)
# More images would take longer and hardly change the choice: the standard error of 95 % of them is 0.5 points.
MOST_IMAGES = 2000
STAGE = "number of blocks"


def choose_depth(
    config: TrainConfig,
    dataset: Dataset,
    weights: Weights | None,
    workers: Workers,
    progress: Progress,
    work: Path | None = None,
    owner: str = "",
) -> tuple[TrainConfig, dict[str, float]]:
    """Return the settings with the chosen number of blocks, and the accuracy, 0..1, of each number ("all" is all).

    Where the settings do not leave it open, and without pretrained weights, they are returned as they are, and no
    accuracy.

    Args:
        config: settings of the run.
        dataset: images, of which only training images are used.
        weights: of the backbone.
        workers: that train together.
        progress: called at each stage.
        work: folder of checkpoints; None saves none.
        owner: identifier of the run in its checkpoints.

    Raises:
        TrainingError: the disk has no room for the features.
    """
    possible = [blocks for blocks in TRIED if blocks is None or blocks >= (config.unfreeze or 0)]
    if not config.leaves_blocks_open or weights is None or weights.source == "none" or possible == [None]:
        return config, {}
    measure = functools.partial(_measure, config, possible, dataset, weights, progress)
    accuracies = measure_once(measure, checkpoint_in(work, owner, "depth"), workers)
    chosen = _smallest_as_good(accuracies, min(MOST_IMAGES, len(dataset.train.labels)))
    return dataclasses.replace(config, blocks=None if chosen == ALL_BLOCKS else int(chosen)), accuracies


def _smallest_as_good(accuracies: dict[str, float], images: int) -> str:
    """Return the first of the numbers whose accuracy is within a standard error of the best.

    The rule of one standard error is from Breiman, Friedman, Olshen and Stone, Classification and Regression Trees,
    1984, section 3.4.3.

    Args:
        accuracies: of each number, the smallest first.
        images: number of images that the accuracies are of.
    """
    best = max(accuracies.values())
    least = best - math.sqrt(best * (1 - best) / images)
    return next(name for name, accuracy in accuracies.items() if accuracy >= least)


def _measure(
    config: TrainConfig, possible: Sequence[int | None], dataset: Dataset, weights: Weights, progress: Progress
) -> dict[str, float]:
    part, count = dataset.train.take_some(MOST_IMAGES, config.seed), len(dataset.classes)
    groups = [dataset.group_of.get(path, "") for path in part.paths]
    accuracies = {}
    found = features_of_depths(config, weights, part, depths=possible, stage=STAGE, progress=progress)
    for blocks, features in found:
        labels = label_each_from_the_others(features, part.labels, count, groups)
        accuracies[str(blocks or ALL_BLOCKS)] = float((labels == part.labels).mean())
        progress(f"{STAGE}: classifiers", len(accuracies), len(possible))
    return accuracies
