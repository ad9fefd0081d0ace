"""The image size of a network, where nobody says it: small images have nothing to show to a large network."""

from __future__ import annotations

import statistics
from pathlib import Path

from edgecls.config import TrainConfig
from edgecls.errors import DataError
from edgecls.images.leftovers import LeftOut
from edgecls.images.opening import read_size
from edgecls.training.train import list_images

# A median side of so many pixels at most makes images small. Magnetic tiles made as small as 48 pixels were labeled
# correctly in 97.0 % by frozen features of 96 pixels, and in 96.4 % by those of 224, and 28 x 28 pixels of clothes in
# 90.2 % by both, which take a fifth of the time.
SMALL_SIDE, SMALL_IMAGE_SIZE = 64, 96
# Training images whose size is read.
MOST_IMAGES = 200


def usual_image_size(data: Path, config: TrainConfig) -> int:
    """Return the image size in pixels that suits the training images of `data`: that of `config`, or a smaller one.

    A network without a backbone keeps that of `config`. What is wrong with the folder, or with an image, is not told
    here but when all images are read.

    Args:
        data: folder of images, as for training.
        config: settings of the run.
    """
    if not config.uses_backbone:
        return config.image_size
    try:
        found = list_images(data, config, LeftOut())
    except DataError:
        return config.image_size
    samples = found.samples["train"]
    chosen = samples[:: max(1, len(samples) // MOST_IMAGES)]
    sides = [side for path, _ in chosen if (side := _read_side(found.root / path, config)) is not None]
    is_small = sides and statistics.median(sides) <= SMALL_SIDE
    return min(SMALL_IMAGE_SIZE, config.image_size) if is_small else config.image_size


def _read_side(path: Path, config: TrainConfig) -> int | None:
    """Return the longer side, in pixels, of the part of an image that the network gets; None for an unreadable one."""
    if config.roi is not None:
        size = config.roi[2:]
    else:
        try:
            size = read_size(path)
        except DataError:
            return None
    return min(size) if config.resize == "crop" else max(size)
